// A table, or a tree of rows, of which only the visible rows exist. One tab stop; arrows, Home, End, Page, Enter work in it.

import { html, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { useMedia } from "./pace.js";

const AROUND = 6; // rows beyond each edge
const NARROW = "(max-width: 640px)";
const HEIGHT = { wide: 28, narrow: 46 }; // pixels: --row in tokens.css
const HEAD = 29; // pixels of the head, which stays in view

/** Return rows in the order of a sort {by, down}; equal ones by another field, upwards. */
export function sorted(rows, { by, down }, then) {
  const turn = down ? -1 : 1;
  return [...rows].sort((one, other) => (one[by] < other[by] ? -turn : one[by] > other[by] ? turn : one[then] < other[then] ? -1 : 1));
}

/**
 * Columns: {id, title, width, show(row), number, mono, spare, rest, unit, sorts, tone(row)}. The first one leads;
 * on a narrow page the others stand below it: a spare one is left out, and `rest` takes what is left. Rows:
 * {key, level, expandable, open}. `onOpen(row, open)` folds, `onChoose(row)` shows details. `hold(boolean)` states
 * that somebody points at rows, whose order should stay.
 */
export function Grid({ label, columns, rows, sort, onSort, onOpen, onChoose, chosen, hold, empty, onScroll }) {
  const narrow = useMedia(NARROW);
  const height = narrow ? HEIGHT.narrow : HEIGHT.wide;
  const grid = useRef(null);
  const [view, setView] = useState({ top: 0, height: 600 });
  const [active, setActive] = useState(null);
  const id = useRef(`g${Math.random().toString(36).slice(2, 8)}`).current;
  const place = active === null ? -1 : rows.findIndex((row) => row.key === active);

  useLayoutEffect(() => {
    const element = grid.current;
    const observer = new ResizeObserver(() => setView((now) => ({ ...now, height: element.clientHeight })));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  useEffect(() => {
    const last = Math.max(0, rows.length * height + HEAD - grid.current.clientHeight);
    if (view.top > last) setView((now) => ({ ...now, top: last }));
  }, [rows.length, height]);

  const scrolled = () => {
    const { scrollTop, clientHeight } = grid.current;
    setView({ top: scrollTop, height: clientHeight });
    onScroll?.(scrollTop);
  };
  const move = (to) => {
    const next = Math.max(0, Math.min(rows.length - 1, to));
    if (!rows[next]) return;
    setActive(rows[next].key);
    const element = grid.current;
    const least = (next + 1) * height + HEAD - element.clientHeight;
    element.scrollTop = Math.min(next * height, Math.max(least, element.scrollTop));
  };
  const fold = (row, open) => {
    if (row?.expandable && row.open !== open) onOpen(row, open);
    else if (row && !open && row.level) move(rows.findLastIndex((one, at) => at < place && one.level < row.level));
    else if (row?.expandable && open) move(place + 1);
  };
  const keys = {
    ArrowDown: () => move(place + 1),
    ArrowUp: () => move(place < 0 ? 0 : place - 1),
    Home: () => move(0),
    End: () => move(rows.length - 1),
    PageDown: () => move(place + Math.floor(view.height / height)),
    PageUp: () => move(place - Math.floor(view.height / height)),
    ArrowRight: () => onOpen && fold(rows[place], true),
    ArrowLeft: () => onOpen && fold(rows[place], false),
    Enter: () => rows[place] && onChoose?.(rows[place]),
    " ": () => rows[place] && (rows[place].expandable ? onOpen(rows[place], !rows[place].open) : onChoose?.(rows[place])),
  };
  const pressed = (event) => {
    if (event.target !== event.currentTarget || event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  };

  const start = Math.max(0, Math.floor(view.top / height) - AROUND);
  const end = Math.min(rows.length, Math.ceil((view.top + view.height) / height) + AROUND);
  const widths = columns.map((column) => column.width).join(" ");
  const template = narrow ? {} : { gridTemplateColumns: widths };
  const shown = place >= start && place < end;
  return html`
    <div class=${`grid ${onOpen ? "treegrid" : ""}`} role=${onOpen ? "treegrid" : "grid"} aria-label=${label} aria-rowcount=${rows.length + 1}
      aria-colcount=${columns.length} tabindex="0" aria-activedescendant=${shown ? `${id}-${place}` : undefined}
      aria-readonly="true" ref=${grid} onScroll=${scrolled} onKeyDown=${pressed} onFocus=${() => hold?.(true)} onBlur=${() => hold?.(false)}>
      <div class="head" role="rowgroup">
        <div class="row" role="row" aria-rowindex="1" style=${template}>
          ${columns.map((column) => html`<${Head} key=${column.id} column=${column} sort=${sort} onSort=${onSort} />`)}
        </div>
      </div>
      <div class="body" role="rowgroup" onPointerEnter=${() => hold?.(true)} onPointerLeave=${() => hold?.(false)}>
        ${!rows.length && html`<div role="row"><div role="gridcell" class="empty">${empty}</div></div>`}
        <div role="presentation" style=${{ height: `${rows.length * height}px` }}>
          <div role="presentation" style=${{ transform: `translateY(${start * height}px)` }}>
            ${rows.slice(start, end).map((row, offset) => html`
              <${Row} key=${row.key} id=${`${id}-${start + offset}`} row=${row} index=${start + offset + 2} columns=${columns}
                template=${narrow ? { "--level": row.level || 0 } : template} tree=${Boolean(onOpen)} active=${row.key === active} chosen=${row.key === chosen}
                onOpen=${onOpen} onClick=${(event) => (setActive(row.key), isOther(event) || onChoose?.(row))} />`)}
          </div>
        </div>
      </div>
    </div>`;
}

/** Return whether a click follows a link, or ends the selection of a text. */
function isOther(event) {
  return event.target.closest("a") || !getSelection().isCollapsed;
}

function Head({ column, sort, onSort }) {
  const direction = sort?.by !== column.id ? "none" : sort.down ? "descending" : "ascending";
  const kind = `cell ${column.number ? "number" : ""}`;
  if (!column.sorts || !onSort) return html`<div class=${kind} role="columnheader">${column.title}</div>`;
  const press = () => onSort({ by: column.id, down: sort?.by === column.id ? !sort.down : column.sorts === "down" });
  return html`<div class=${kind} role="columnheader" aria-sort=${direction}><button type="button" onClick=${press}>${column.title}</button></div>`;
}

function Row({ id, row, index, columns, template, tree, active, chosen, onOpen, onClick }) {
  const level = tree ? { "aria-level": (row.level || 0) + 1, "aria-expanded": row.expandable ? row.open : undefined } : {};
  return html`
    <div class=${`row ${active ? "active" : ""} ${chosen ? "chosen" : ""}`} role="row" id=${id} aria-rowindex=${index}
      aria-selected=${chosen} ...${level} style=${template} onClick=${onClick}>
      ${columns.map((column, place) => {
        const shown = column.show(row);
        const kind = `cell ${place ? "" : "lead"} ${column.number ? "number" : ""} ${column.mono ? "mono" : ""} ${column.spare ? "spare" : ""} ${column.rest ? "rest" : ""} ${column.tone?.(row) || ""}`;
        const text = typeof shown === "string" ? shown : undefined;
        if (place || !tree) return html`<div class=${kind} role="gridcell" key=${column.id} title=${text} data-unit=${column.unit}>${shown}</div>`;
        const toggle = (event) => (event.stopPropagation(), onOpen(row, !row.open));
        return html`<div class=${`${kind} tree`} role="gridcell" key=${column.id} title=${text} style=${{ paddingLeft: `${(row.level || 0) * 18}px` }}>
          ${row.expandable
            ? html`<button type="button" class="fold" tabindex="-1" aria-label=${row.open ? "Fold" : "Unfold"} onClick=${toggle}>${row.open ? "\u25be" : "\u25b8"}</button>`
            : html`<span class="fold"></span>`}
          <span class="text">${shown}</span></div>`;
      })}
    </div>`;
}
