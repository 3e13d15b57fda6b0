// The relations of trails as a graph: who asked (processes, hosts of the fleet), questions, aliases, addresses, and names
// of reverse records.

export const MOST_NODES = 200;
const FOLD = 24; // nodes of one layer with the same neighbours: beyond it, they are folded into one
const KEPT = 8; // of these

/** Return whether a text is an address. */
export function isAddress(text) {
  return text.includes(":") || /^\d+(\.\d+){3}$/.test(text);
}

/** Return the identity of who asked: all processes of one program, container and unit are one. */
export function askerKey(asked) {
  return `asker ${asked.process_name || asked.client} ${asked.executable} ${asked.container_id} ${asked.unit}`;
}

/**
 * Return {nodes, links} of trails, the likeliest first. A node is {id, kind, label, layer, order, asked, folded}; a
 * link is {from, to, kind, state, age, remaining, count, trails}, where `trails` are places in the list. `hosts` are
 * other hosts, each with the names by which it knows the key: it leads to those that are shown questions, never to an
 * address, which may be private.
 */
export function graphOf(key, trails, names = [], hosts = []) {
  const nodes = new Map();
  const links = new Map();
  const node = (id, kind, label) => {
    if (!nodes.has(id)) nodes.set(id, { id, kind, label, key: asks(kind) ? "" : id, layer: 0, order: nodes.size, asked: null, folded: [] });
    return nodes.get(id);
  };
  const link = (from, to, kind, trail, life) => {
    const id = `${from}\u0000${kind}\u0000${to}`;
    const held = links.get(id) || { id, from, to, kind, trails: [], ...life };
    held.trails.push(trail);
    links.set(id, held);
  };
  node(key, isAddress(key) ? "address" : "name", key);
  trails.forEach((trail, place) => {
    const root = node(trail.dns_root, isAddress(trail.dns_root) ? "address" : "name", trail.dns_root);
    root.isQuestion = true;
    for (const asked of trail.asked) {
      const asker = node(askerKey(asked), "asker", asked.process_name || asked.client);
      asker.asked = asker.asked || asked;
      (asker.pids ||= new Set()).add(asked.process_id);
      link(asker.id, root.id, "asked", place, { state: trail.state, count: asked.count, foreign: asked.foreign });
    }
    for (const step of trail.steps) {
      node(step.owner, isAddress(step.owner) ? "address" : "name", step.owner);
      node(step.target, step.kind === "PTR" ? "reverse" : isAddress(step.target) ? "address" : "name", step.target);
      link(step.owner, step.target, step.kind, place, step);
    }
  });
  for (const [host, known] of hosts) {
    for (const name of known.filter((one) => nodes.get(one)?.isQuestion && !isAddress(one))) {
      const from = node(`host\u0000${host}`, "host", host).id;
      links.set(`${from}\u0000${name}`, { id: `${from}\u0000${name}`, from, to: name, kind: "known", trails: [] });
    }
  }
  const more = names.filter((name) => !nodes.has(name));
  if (more.length) {
    nodes.set("more", { id: "more", kind: "fold", label: "", key: "", layer: 1, order: Infinity, folded: more });
    links.set("more", { id: "more", from: "more", to: key, kind: "", trails: [] });
  }
  return arranged([...nodes.values()], [...links.values()], key);
}

/** Return whether nodes of a kind ask: processes, and hosts of the fleet. */
function asks(kind) {
  return kind === "asker" || kind === "host";
}

/** Set the layers: askers, questions, aliases by the longest way, addresses, names of reverse records. */
function arranged(nodes, links, key) {
  const byId = new Map(nodes.map((one) => [one.id, one]));
  for (const one of nodes) one.layer = asks(one.kind) ? 0 : 1;
  const chain = links.filter((link) => !["asked", "known", "PTR"].includes(link.kind));
  for (let turn = 0; turn < 12; turn += 1) {
    let moved = false;
    for (const { from, to } of chain) {
      const [owner, target] = [byId.get(from), byId.get(to)];
      if (target.kind !== "address" && target.layer <= owner.layer && owner.layer < 12) {
        target.layer = owner.layer + 1;
        moved = true;
      }
    }
    if (!moved) break;
  }
  const deepest = nodes.reduce((most, one) => (one.kind === "address" || one.kind === "reverse" ? most : Math.max(most, one.layer)), 1);
  for (const one of nodes) {
    if (one.kind === "address") one.layer = deepest + 1;
    if (one.kind === "reverse") one.layer = deepest + 2;
    one.isKey = one.id === key;
  }
  return folded(nodes, links, key);
}

/** Fold nodes with the same neighbours, and then the least likely ones, until the graph is readable. */
function folded(nodes, links, key) {
  const around = new Map(nodes.map((one) => [one.id, []]));
  for (const { from, to } of links) {
    around.get(from).push(to);
    around.get(to).push(from);
  }
  const groups = new Map();
  for (const one of nodes) {
    if (one.id === key || one.kind === "fold") continue;
    const near = asks(one.kind) || one.isQuestion ? around.get(one.id).filter((id) => !/^(asker |host\u0000)/.test(id)) : around.get(one.id);
    const id = `${one.layer} ${one.kind} ${[...new Set(near)].sort().join(" ")}`;
    groups.set(id, [...(groups.get(id) || []), one]);
  }
  const gone = new Map(); // id -> the fold that it is in
  const folds = [];
  const fold = (some, id) => {
    const first = some[0];
    const one = { id: `fold ${id}`, kind: "fold", of: first.kind, label: "", key: "", layer: first.layer, order: first.order + 0.5, folded: some.map((each) => each.label) };
    folds.push(one);
    for (const each of some) gone.set(each.id, one.id);
  };
  for (const [id, group] of groups) if (group.length > FOLD) fold(group.slice(KEPT), id);
  const rest = nodes.filter((one) => !gone.has(one.id));
  if (rest.length + folds.length > MOST_NODES) {
    const layers = Map.groupBy(rest, (one) => one.layer);
    const share = Math.floor(MOST_NODES / layers.size) - 2;
    for (const [layer, some] of layers) {
      const foldable = some.filter((one) => one.id !== key && one.kind !== "fold");
      if (foldable.length > share) fold(foldable.slice(share), `layer ${layer}`);
    }
  }
  const beyond = nodes.find((one) => one.id === "more");
  const held = folds.find((one) => one.of === "name" && one.layer === 1);
  if (beyond && held) {
    held.folded.push(...beyond.folded);
    gone.set(beyond.id, held.id);
  }
  return merged(nodes.filter((one) => !gone.has(one.id)).concat(folds), links, gone);
}

/** Return the graph with the links of folded nodes joined. */
function merged(nodes, links, gone) {
  const kept = new Map();
  for (const link of links) {
    const [from, to] = [gone.get(link.from) || link.from, gone.get(link.to) || link.to];
    const isFolded = from !== link.from || to !== link.to;
    const id = isFolded ? `${from}\u0000${to}` : link.id;
    const held = kept.get(id);
    if (held) held.trails.push(...link.trails);
    else kept.set(id, isFolded ? { id, from, to, kind: "", trails: [...link.trails] } : link);
  }
  return { nodes, links: [...kept.values()].filter((link) => link.from !== link.to) };
}
