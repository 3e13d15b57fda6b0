// What is known of one row of Now: how a connection was bound, and the rivals of its name.

import { get } from "../api.js";
import { href } from "../address.js";
import { boundWords, bytes, clock, count, duration, OUTCOMES, utc, visible } from "../format.js";
import { html, useEffect, useState } from "../html.js";
import { Paths } from "../trail/paths.js";
import { processText } from "./columns.js";

const MOST = 20; // connections that are listed

export function Detail({ row, at, onClose }) {
  const fact = row.kind ? row : row.fact;
  const key = trailKey(row, fact);
  return html`<aside class="side" aria-label="Details">
    <div class="title"><h2 class="mono">${visible(title(row, fact))}</h2>
      <button type="button" class="plain" onClick=${onClose}>Close</button></div>
    ${fact ? html`<${FactSection} fact=${fact} />` : html`<${GroupSection} group=${row} />`}
    ${key && html`<${TrailSection} key=${key} name=${key} fact=${fact} at=${at} />`}
  </aside>`;
}

function title(row, fact) {
  if (!fact) return row.label;
  return fact.kind === "question" ? `${fact.entry.type} ${fact.name}` : `${fact.name || "(no name)"} → ${fact.address}`;
}

function trailKey(row, fact) {
  if (fact) return fact.kind === "connection" ? fact.address : fact.outcome === "answered" ? fact.name : "";
  return ["name", "address", "domain"].includes(row.field) ? row.value : "";
}

function Rows({ rows }) {
  return html`<dl class="facts">${rows.filter(([, value]) => value !== "" && value !== undefined && value !== null).map(([name, value]) => html`<dt key=${name}>${name}</dt><dd key=${`${name}=`}>${value}</dd>`)}</dl>`;
}

function FactSection({ fact }) {
  const { entry } = fact;
  const asker = [
    ["Process", processText(entry)],
    ["Program", visible(entry.executable || "")],
    ["Container", visible(entry.container_name || entry.container_id || "")],
    ["Image", visible(entry.container_image || "")],
    ["Labels", Object.entries(entry.container_labels || {}).map(([key, value]) => visible(`${key}=${value}`)).join(", ")],
    ["Unit", visible(entry.unit || "")],
    ["Slice", visible(entry.slice || "")],
    ["User", entry.user_id],
    ["Host", visible(entry.host || "")],
  ];
  if (fact.kind === "question") {
    return html`<section><${Rows} rows=${[
      ["Outcome", OUTCOMES[fact.outcome] || fact.outcome],
      ["Ended", html`<span title=${utc(fact.time)}>${clock(fact.time, true)}</span>`],
      ["Waited", entry.waited === undefined ? "" : `${duration(entry.waited / 1e9)}${entry.tries > 1 ? ` in ${entry.tries} tries` : ""}`],
      ["Server", `${entry.dst}:${entry.dst_port} ${entry.transport}${entry.foreign ? ", not configured" : ""}`],
      ...asker,
    ]} /></section>
    ${entry.relations && html`<section><h3>Answer</h3><ul class="plain-list mono">${entry.relations.slice(0, MOST).map(([owner, kind, target, ttl], place) => html`<li key=${place}>${visible(owner)} ${kind} ${visible(target)} <span class="quiet">${ttl} s</span></li>`)}</ul></section>`}`;
  }
  return html`<section><${Rows} rows=${[
    ["Name", visible(fact.name || "not known")],
    ["Bound by", boundWords(fact.bound)],
    ["Peer", `${fact.address}:${entry.dst_port} ${entry.transport}`],
    ["State", fact.error ? visible(fact.error) : fact.over ? `ended: ${entry.why || "closed"}` : "open"],
    ["Since", html`<span title=${utc(fact.time)}>${clock(fact.time, true)}</span>`],
    ["Lasted", entry.lasted === undefined ? "" : duration(entry.lasted / 1e9)],
    ["Sent", bytes(entry.bytes_sent)],
    ["Received", bytes(entry.bytes_received)],
    ...asker,
  ]} /></section>`;
}

function GroupSection({ group }) {
  const failures = Object.entries(group.outcomes).filter(([, number]) => number > 0);
  return html`<section><${Rows} rows=${[
    ["Lookups", count(group.lookups || "")],
    ["Answers", count(group.answers || "")],
    ["Connections", group.connections ? `${count(group.connections)}, ${count(group.running)} open` : ""],
    ["Sent", group.sent ? bytes(group.sent) : ""],
    ["Received", group.received ? bytes(group.received) : ""],
    ["Mean wait", duration(group.wait)],
    ...failures.map(([outcome, number]) => [OUTCOMES[outcome], count(number)]),
    ["Last", html`<span title=${utc(group.last)}>${clock(group.last)}</span>`],
  ]} /></section>`;
}

/** The paths to a key, the likeliest first: for a connection those of its process and port. */
function TrailSection({ name, fact, at }) {
  const [state, set] = useState({});
  const entry = fact?.kind === "connection" ? fact.entry : null;
  const scope = entry ? { process: entry.process_id || "", container: entry.container_id, port: entry.dst_port, source_port: entry.src_port } : {};
  useEffect(() => {
    const abort = new AbortController();
    get("trail", { key: name, at: at || "", limit: 8, ...scope }, abort.signal).then(
      (reply) => set({ trails: reply.data.trails, history: reply.data.history }),
      (error) => error.name === "AbortError" || set({ error }),
    );
    return () => abort.abort();
  }, [name, at, entry?.id]);
  const to = href("trail", { key: name, at: at ? at.toFixed(6) : "", ...scope });
  return html`<section><h3>Why this name: paths and rivals</h3>
    ${state.error && html`<p class="quiet">${state.error.error === "data_not_found" ? "No answer names it at this time." : state.error.message}</p>`}
    ${state.trails && html`<${Paths} trails=${state.trails} />`}
    <p><a href=${to}>Open the trail</a></p></section>`;
}
