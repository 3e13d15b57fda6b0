// Hosts: what the store of the fleet states about each host: when it was heard, what waits, what was lost, and its clock.

import { change } from "./address.js";
import { get } from "./api.js";
import { Command, commandLine } from "./command.js";
import { saveCsv, saveJson } from "./export.js";
import { clock, count, duration, utc, visible } from "./format.js";
import { Grid, sorted } from "./grid.js";
import { html, useEffect, useMemo, useState } from "./html.js";
import { poll } from "./pace.js";

const EVERY = 3000; // ms
const LONG = 86_400; // seconds: a host that is not behind and was silent for longer counts as removed at the store
const LOSSES = { dropped: "dropped", trimmed: "trimmed", left_out: "left out" };
const EXPORTED = ["host", "state", "heard", "waiting", "behind", "dropped", "trimmed", "left_out", "refused", "lost", "skew"];

export function Hosts({ params, session }) {
  const [state, set] = useState({});
  const [sort, setSort] = useState({ by: "state", down: false });
  const hasFleet = session?.fleet;
  useEffect(() => {
    if (!hasFleet) return undefined;
    const read = (signal) =>
      get("fleet/hosts", {}, signal).then(
        ({ data }) => set({ rows: rowsOf(data, Date.now() / 1000), at: Date.now() / 1000 }),
        (error) => error.name === "AbortError" || set((now) => ({ ...now, error })),
      );
    return poll(read, EVERY);
  }, [hasFleet]);

  const text = (params.filter || "").toLowerCase();
  const shown = useMemo(() => sorted((state.rows || []).filter((row) => row.host.toLowerCase().includes(text)), sort, "host"), [state.rows, text, sort]);
  const chosen = state.rows?.find((row) => row.host === params.host);
  const exported = shown.map((row) => ({ ...row, heard: row.heard ? utc(row.heard) : "", refused: row.refused_words }));
  return html`
    <h1 class="hidden">Hosts of the fleet</h1>
    <div class="bar">
      <label class="field wide">Filter <input class="mono" type="search" id="filter" value=${params.filter || ""} placeholder="part of a host's name" onInput=${(event) => change({ filter: event.target.value }, { replace: true })} /></label>
      <div class="end"><button type="button" onClick=${() => saveCsv("dnstrail-hosts", EXPORTED, exported)}>CSV</button>
        <button type="button" onClick=${() => saveJson("dnstrail-hosts", shown)}>JSON</button></div>
    </div>
    <${Note} state=${state} session=${session} />
    <div class="split">
      <${Grid} label="Hosts" rows=${shown} columns=${columns} sort=${sort} onSort=${setSort} chosen=${params.host} onChoose=${(row) => change({ host: row.host })}
        empty=${state.rows ? "No host." : state.error || session?.fleet === false ? "" : "Reading …"} />
      ${chosen && html`<${Host} row=${chosen} onClose=${() => change({ host: "" })} />`}
    </div>
    <${Command} text=${commandLine(["dnstrail", "fleet", "hosts"])} />`;
}

/** What the rows are, and how old they are if the store does not answer. */
function Note({ state, session }) {
  if (session?.fleet === false) return html`<div class="notice" role="status">This page knows no fleet: start <code>dnstrail web</code> with <code>--store</code>.</div>`;
  const { rows, error, at } = state;
  const number = (fits) => count(rows.filter(fits).length);
  return html`
    ${error && html`<div class="notice error" role="alert">${visible(error.message)}${rows ? `: the rows are of ${clock(at)}` : ""}</div>`}
    ${rows && html`<p class="notes quiet" role="status">${count(rows.length)} ${rows.length === 1 ? "host" : "hosts"}, ${number((row) => row.state === "behind")} behind, ${number((row) => row.lost)} with losses</p>`}`;
}

/** Return the hosts of a reply as rows; `now` is in seconds since the epoch. */
export function rowsOf({ hosts, behind }, now) {
  const late = new Set(behind);
  return hosts.map((one) => {
    const refused = Object.entries(one.refused).sort();
    const lost = Object.keys(LOSSES).reduce((sum, name) => sum + one[name], 0) + refused.reduce((sum, [, number]) => sum + number, 0);
    const silent = Math.max(0, now - one.heard);
    const state = late.has(one.host) ? "behind" : silent > LONG ? "removed" : "current";
    return { ...one, key: one.host, state, silent, lost, off: Math.abs(one.skew), refused_words: refused.map(([reason, number]) => `${reason} ${number}`).join(", ") };
  });
}

const heard = (row) => (!row.heard ? "never" : row.silent < 1 ? "now" : `${duration(row.silent)} ago`);
const skew = (row) => (row.skew ? `${row.skew > 0 ? "+" : "\u2212"}${duration(Math.abs(row.skew))}` : "");
const number = (field) => (row) => count(row[field] || "");

function Host({ row, onClose }) {
  const facts = [
    ["State", row.state],
    ["Heard", row.heard ? `${clock(row.heard)}, ${heard(row)}` : "never"],
    ["Lag", `${count(row.waiting)} entries wait in the engine`],
    ["Spool", `${count(row.behind)} segments of the history are not sent`],
    ...Object.entries(LOSSES).filter(([name]) => row[name]).map(([name, words]) => [`Lost: ${words}`, count(row[name])]),
    ["Lost: refused", visible(row.refused_words)],
    ["Clock", skew(row) && `off by ${skew(row)}, corrected`],
  ];
  return html`<aside class="side" aria-label="Host">
    <div class="title"><h2 class="mono">${visible(row.host)}</h2><button type="button" class="plain" onClick=${onClose}>Close</button></div>
    <section><dl class="facts">${facts.filter(([, value]) => value).map(([name, value]) => html`<dt key=${name}>${name}</dt><dd key=${`${name}=`}>${value}</dd>`)}</dl></section>
  </aside>`;
}

const columns = [
  { id: "host", title: "Host", width: "minmax(160px, 2fr)", mono: true, show: (row) => visible(row.host), sorts: "up" },
  { id: "state", title: "State", width: "84px", show: (row) => row.state, tone: (row) => (row.state === "behind" ? "bad" : ""), sorts: "up" },
  { id: "silent", title: "Heard", width: "96px", number: true, show: heard, sorts: "down" },
  { id: "waiting", title: "Lag", width: "72px", number: true, show: number("waiting"), sorts: "down", unit: "waiting" },
  { id: "behind", title: "Spool", width: "72px", number: true, show: number("behind"), sorts: "down", unit: "unsent" },
  { id: "lost", title: "Lost", width: "84px", number: true, show: number("lost"), tone: () => "bad", sorts: "down", unit: "lost" },
  { id: "off", title: "Clock", width: "84px", number: true, show: skew, sorts: "down", unit: "off" },
];
