// The drawing of a graph. Each node is a link to its own trail; the path that is pointed at stands out.

import { href } from "../address.js";
import { containerText, count, visible } from "../format.js";
import { html, useLayoutEffect, useMemo, useRef, useState } from "../html.js";
import { graphOf } from "./graph.js";
import { curve, layout, SIZE } from "./layout.js";

const TITLES = ["Asked by", "Question", "Alias", "Address", "Reverse record"];

export function Drawing({ name, trails, names, hosts, at, path, onPath, elapsed }) {
  const frame = useRef(null);
  const [room, setRoom] = useState(1200);
  useLayoutEffect(() => {
    const observer = new ResizeObserver(() => setRoom(frame.current.clientWidth - 32));
    observer.observe(frame.current);
    return () => observer.disconnect();
  }, []);
  const { nodes, links, size } = useMemo(() => {
    const graph = graphOf(name, trails, names, hosts);
    return { ...graph, size: layout(graph, room) };
  }, [name, trails, names, hosts, room]);
  useLayoutEffect(() => {
    const middle = nodes.find((one) => one.isKey).y - frame.current.clientHeight / 2;
    frame.current.scrollTop = middle;
  }, [name, size.height]);
  const byId = new Map(nodes.map((one) => [one.id, one]));
  const first = (link) => link.trails.includes(0);
  const on = (link) => path !== null && link.trails.includes(path);
  const strength = (link) => (on(link) ? 2 : path === null && first(link) ? 1 : 0);
  const inPath = new Set(links.filter(on).flatMap(({ from, to }) => [from, to]));
  const lives = lifeOfNodes(links, elapsed);
  return html`<div class="drawing" ref=${frame} tabindex="0" role="region" aria-label="Graph of relations">
    <svg width=${size.width} height=${size.height} class=${path === null ? "" : "pointed"} role="group" aria-label=${`${nodes.length} nodes, ${links.length} relations`}>
      ${size.columns.map((column, place) => html`<text class="column" x=${column[0].x} y="16" key=${place}>${title(column)}</text>`)}
      <g aria-hidden="true">${[...links].sort((one, other) => strength(one) - strength(other)).map((link) => {
        const kind = `link ${link.state || ""} ${link.kind === "PTR" ? "reverse" : ""} ${first(link) ? "first" : ""} ${on(link) ? "on" : ""}`;
        return html`<path key=${link.id} class=${kind} d=${curve(byId.get(link.from), byId.get(link.to), size.node)} />`;
      })}</g>
      ${nodes.map((one) => html`<${Node} key=${one.id} node=${one} height=${size.node} at=${at} on=${inPath.has(one.id)} life=${lives.get(one.id)} onPath=${onPath} links=${links} />`)}
    </svg></div>`;
}

function title(column) {
  const layer = column[0].layer;
  const kinds = new Set(column.map((one) => (one.kind === "fold" ? one.of : one.kind)));
  if (kinds.has("host")) return kinds.has("asker") ? "Asked by, known on" : "Known on";
  if (kinds.has("asker")) return TITLES[0];
  if (kinds.has("address")) return TITLES[3];
  if (kinds.has("reverse")) return TITLES[4];
  return layer <= 1 ? TITLES[1] : column.some((one) => one.isQuestion) ? "Alias, also asked" : TITLES[2];
}

/** Return the longest remaining life of each target: {share, state, kinds}. */
function lifeOfNodes(links, elapsed) {
  const lives = new Map();
  for (const link of links) {
    if (link.remaining === undefined) continue;
    const left = Math.max(0, link.remaining - elapsed);
    const whole = Math.max(0.001, link.age + link.remaining);
    const held = lives.get(link.to) || { left: -1, kinds: new Set() };
    held.kinds.add(link.kind);
    if (left > held.left) Object.assign(held, { left, share: Math.min(1, left / whole), state: link.state });
    lives.set(link.to, held);
  }
  return lives;
}

function Node({ node, height, at, on, life, onPath, links }) {
  const own = links.find((link) => (link.from === node.id || link.to === node.id) && link.trails.length);
  const point = () => own && onPath(own.trails[0]);
  const kind = `node ${node.kind} ${node.isKey ? "key" : ""} ${on ? "on" : ""} ${node.isQuestion ? "question" : ""}`;
  const [label, below] = texts(node, life);
  const under = height > 24 ? below : "";
  const inside = html`
    <title>${label}${below ? `\n${below}` : ""}${node.folded.length ? `\n${node.folded.slice(0, 20).map(visible).join("\n")}` : ""}</title>
    <rect width=${SIZE.width} height=${height} rx="3" />
    <text x="8" y=${under ? 13 : height / 2 + 4}>${shortened(label, node.kind === "asker" || node.kind === "fold" ? 26 : 22)}</text>
    ${under && html`<text class="under" x="8" y="25">${shortened(under, 30)}</text>`}
    ${life && html`<rect class="track" x="0" y=${height - 3} width=${SIZE.width} height="3" /><rect class=${`life ${life.state}`} x="0" y=${height - 3} width=${Math.max(life.share > 0 ? 2 : 0, Math.round(SIZE.width * life.share))} height="3" />`}`;
  const place = `translate(${node.x},${node.y})`;
  if (!node.key) return html`<g class=${kind} transform=${place} onPointerEnter=${point} onPointerLeave=${() => onPath(null)}>${inside}</g>`;
  return html`<a href=${href("trail", { key: node.key, at })} class=${kind} transform=${place} aria-label=${`${label}${below ? `, ${below}` : ""}`}
    aria-current=${node.isKey ? "true" : undefined} onFocus=${point} onBlur=${() => onPath(null)} onPointerEnter=${point} onPointerLeave=${() => onPath(null)}>${inside}</a>`;
}

function texts(node, life) {
  if (node.kind === "fold") {
    const what = node.of === "address" ? "addresses" : node.of === "asker" ? "askers" : node.of === "host" ? "hosts" : "names";
    return [`${count(node.folded.length)} more ${what}`, "folded: listed below"];
  }
  const label = visible(node.label);
  if (node.kind === "host") return [label, "host of the fleet"];
  if (node.kind === "asker") {
    const { asked, pids } = node;
    const where = asked.container_id ? `, container ${visible(containerText(asked))}` : asked.unit ? `, ${visible(asked.unit)}` : "";
    if (!asked.process_name) return [label, `client${where}`];
    return [label, (pids.size > 1 ? `${pids.size} processes` : `process ${asked.process_id}`) + where];
  }
  if (!life) return [label, node.isQuestion ? "asked" : ""];
  const rest = life.left >= 1 ? `${Math.floor(life.left)} s left` : life.state === "live" ? "ends now" : life.state;
  return [label, `${[...life.kinds].join(", ")}, ${rest}`];
}

/** Return a text of at most so many characters: of a name its middle is left out, the end shows its owner. */
function shortened(text, most) {
  if (text.length <= most) return text;
  const head = Math.floor((most - 1) / 2);
  return `${text.slice(0, head)}…${text.slice(text.length - (most - 1 - head))}`;
}
