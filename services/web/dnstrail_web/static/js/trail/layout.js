// A layered layout: columns from left to right; in each, nodes stand near the middle of their neighbours.

export const SIZE = { least: 206, most: 280, width: 176, top: 30, left: 8 };
const LOOSE = { row: 40, height: 32 };
const DENSE = { row: 27, height: 22 }; // with more rows than
const FEW = 14;
const SWEEPS = 6;

/** Set x and y of each node, in columns that use the room; return the size of the drawing and the columns. */
export function layout({ nodes, links }, room) {
  const used = [...new Set(nodes.map((one) => one.layer))].sort((one, other) => one - other);
  const columns = used.map((layer) => nodes.filter((one) => one.layer === layer).sort((one, other) => one.order - other.order));
  const near = neighbours(nodes, links);
  columns.forEach((column) => column.forEach((one, row) => (one.row = row)));
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const turn = sweep % 2 ? [...columns].reverse() : columns;
    for (const column of turn) order(column, near);
  }
  const rows = Math.max(1, ...columns.map((column) => column.length));
  const size = rows > FEW ? DENSE : LOOSE;
  for (const column of columns) spread(column, rows);
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) for (const column of columns) settle(column, near, rows);
  const column = Math.max(SIZE.least, Math.min(SIZE.most, (room - SIZE.width) / Math.max(1, columns.length - 1)));
  columns.forEach((some, place) => {
    for (const one of some) {
      one.x = Math.round(SIZE.left + place * column);
      one.y = Math.round(SIZE.top + one.row * size.row);
    }
  });
  return { width: SIZE.left * 2 + Math.round((columns.length - 1) * column) + SIZE.width, height: SIZE.top + rows * size.row, node: size.height, columns };
}

function neighbours(nodes, links) {
  const byId = new Map(nodes.map((one) => [one.id, one]));
  const near = new Map(nodes.map((one) => [one.id, []]));
  for (const { from, to } of links) {
    near.get(from).push(byId.get(to));
    near.get(to).push(byId.get(from));
  }
  return near;
}

function middle(one, near) {
  const around = near.get(one.id).filter((other) => other.layer !== one.layer);
  return around.length ? around.reduce((sum, other) => sum + other.row, 0) / around.length : one.row;
}

/** Order a column by the middle of the neighbours, folds last. */
function order(column, near) {
  const at = new Map(column.map((one) => [one, one.kind === "fold" ? Infinity : middle(one, near)]));
  column.sort((one, other) => at.get(one) - at.get(other) || one.order - other.order);
  column.forEach((one, row) => (one.row = row));
}

/** Centre a column. */
function spread(column, rows) {
  const first = (rows - column.length) / 2;
  column.forEach((one, row) => (one.row = first + row));
}

/** Move the nodes of a column towards their neighbours, in their order and a row apart. */
function settle(column, near, rows) {
  const wanted = column.map((one) => (one.kind === "fold" ? one.row : middle(one, near)));
  let before = -1;
  column.forEach((one, place) => {
    const last = rows - (column.length - place);
    one.row = Math.min(last, Math.max(before + 1, wanted[place]));
    before = one.row;
  });
}

/** Return the path of a link between two nodes. */
export function curve(from, to, height) {
  const back = to.x <= from.x;
  const [x1, y1] = [back ? from.x : from.x + SIZE.width, from.y + height / 2];
  const [x2, y2] = [back ? to.x + SIZE.width : to.x, to.y + height / 2];
  const bend = Math.max(24, Math.abs(x2 - x1) / 2) * (back ? -1 : 1);
  return `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
}
