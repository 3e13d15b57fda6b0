// New: domains, programs, resolvers and servers that the history saw first in a time, by host and program.

import { change, go, href } from "./address.js";
import { get } from "./api.js";
import { Command, commandLine } from "./command.js";
import { saveCsv, saveJson } from "./export.js";
import { clock, count, day, utc, visible } from "./format.js";
import { Grid, sorted } from "./grid.js";
import { html, useEffect, useMemo, useState } from "./html.js";
import { poll } from "./pace.js";
import { moment, NoTime, wrongTime } from "./times.js";

const KINDS = { domain: "Domains", program: "Programs", resolver: "Resolvers", server: "Servers" };
const SINCE = { "": "Today", "-1d": "Last day", "-7d": "Last 7 days", "-30d": "Last 30 days" };
const COLUMNS = ["kind", "name", "first", "host", "program", "container", "user_id"];
const EVERY = 15_000; // ms

export function New({ params, session }) {
  const since = params.since || midnight();
  const [state, set] = useState({ loading: true });
  const [sort, setSort] = useState({ by: "first", down: true });
  const [folded, setFolded] = useState(() => new Set());
  const wrong = wrongTime(since);
  useEffect(() => {
    if (wrong) {
      set({});
      return undefined;
    }
    const read = (signal) =>
      get("new", { since: moment(since) }, signal).then(
        (reply) => set({ rows: reply.data, begins: reply.begins || {} }),
        (error) => error.name === "AbortError" || set({ error }),
      );
    set({ loading: true });
    return poll(read, EVERY);
  }, [since]);

  const fits = (row) => (!params.kind || row.kind === params.kind) && (!params.filter || `${row.name} ${row.program} ${row.container}`.toLowerCase().includes(params.filter.toLowerCase()));
  const found = useMemo(() => sorted((state.rows || []).filter(fits), sort, "name"), [state.rows, params.kind, params.filter, sort]);
  const rows = useMemo(() => grouped(found, params.group, folded), [found, params.group, folded]);
  const exported = found.map((row) => ({ ...row, host: row.host ?? session?.host ?? "" }));
  const fold = (row) => {
    const next = new Set(folded);
    if (!next.delete(row.key)) next.add(row.key);
    setFolded(next);
  };
  const open = (row) => (row.expandable ? fold(row) : row.kind !== "program" && go(trailOf(row)));
  return html`
    <h1 class="hidden">New: first seen</h1>
    <div class="bar">
      <label class="field">First seen <select value=${params.since || ""} onChange=${(event) => change({ since: event.target.value })}>
        ${Object.entries(SINCE).map(([value, name]) => html`<option value=${value} key=${value}>${name}</option>`)}
        ${params.since && !Object.hasOwn(SINCE, params.since) && html`<option value=${params.since}>${params.since}</option>`}</select></label>
      <div class="choice" role="group" aria-label="Kind">
        ${["", ...Object.keys(KINDS)].map((kind) => html`<button type="button" key=${kind} aria-pressed=${(params.kind || "") === kind} onClick=${() => change({ kind })}>${kind ? KINDS[kind] : "All"} <span class="quiet">${count(number(state.rows, kind))}</span></button>`)}
      </div>
      <label class="field">Group by <select value=${params.group || ""} onChange=${(event) => change({ group: event.target.value })}>
        <option value="">Nothing</option><option value="program">Program</option><option value="host">Host</option><option value="day">Day</option></select></label>
      <label class="field wide">Filter <input class="mono" type="search" id="filter" value=${params.filter || ""} placeholder="part of a name, program or container" onInput=${(event) => change({ filter: event.target.value }, { replace: true })} /></label>
      <div class="end"><button type="button" onClick=${() => saveCsv("dnstrail-new", COLUMNS, exported)}>CSV</button>
        <button type="button" onClick=${() => saveJson("dnstrail-new", exported)}>JSON</button></div>
    </div>
    ${wrong ? html`<${NoTime} text=${wrong} />` : html`<${Note} state=${state} since=${since} />`}
    <${Grid} label="First seen" rows=${rows} columns=${columns(session)} sort=${sort} onSort=${setSort} onOpen=${params.group ? fold : undefined} onChoose=${open}
      empty=${wrong ? "" : state.loading ? "Reading …" : state.error ? "" : "Nothing is new in this time."} />
    <${Command} text=${wrong ? "" : commandLine(["dnstrail", "new"], [["--since", params.since || "today 0:00"]])} />`;
}

/** What the history cannot know: before its beginning everything is new to it. */
function Note({ state, since }) {
  if (state.error) return html`<div class="notice error" role="alert">${state.error.error === "no_history" ? "No history is kept on this host, so nothing is known of earlier days. Run dnstrail history beside the cache." : state.error.message}</div>`;
  if (!state.rows) return null;
  const late = Object.entries(state.begins).filter(([, begin]) => begin !== null && begin >= moment(since) - 1);
  const kinds = Map.groupBy(late, ([, begin]) => clock(begin));
  const text = [...kinds].map(([time, some]) => `${time} (${some.map(([kind]) => KINDS[kind]?.toLowerCase() || kind).join(", ")})`).join(", ");
  return html`<p class="notes quiet" role="status">${count(state.rows.length)} first seen since ${clock(moment(since))}${text && `. The history begins at ${text}; everything before it counts as new`}</p>`;
}

function midnight() {
  const date = new Date();
  return new Date(date.getFullYear(), date.getMonth(), date.getDate()).toISOString();
}

function number(rows, kind) {
  return rows ? rows.filter((row) => !kind || row.kind === kind).length : "";
}

const OF = { program: (row) => row.program || "(no program)", host: (row) => row.host || "(this host)", day: (row) => day(row.first) };

function grouped(found, group, folded) {
  const keyed = found.map((row) => ({ ...row, key: `${row.kind} ${row.name} ${row.program} ${row.container} ${row.host || ""}`, level: group ? 1 : 0 }));
  if (!Object.hasOwn(OF, group)) return keyed;
  const rows = [];
  for (const [label, some] of Map.groupBy(keyed, OF[group])) {
    const open = !folded.has(label);
    rows.push({ key: label, label, level: 0, expandable: true, open, size: some.length, first: some[0].first });
    if (open) rows.push(...some);
  }
  return rows;
}

/** The trail of a domain is the one of its first name, when that was new: nobody needs to have asked for the domain. */
function trailOf(row) {
  return href("trail", row.owner ? { key: row.owner, at: row.first + 1 } : { key: row.name });
}

function name(row) {
  if (row.label !== undefined) return html`${visible(row.label)} <span class="quiet">${count(row.size)}</span>`;
  const text = visible(row.name);
  return row.kind === "program" ? html`<span class="mono">${text}</span>` : html`<a class="mono" tabindex="-1" href=${trailOf(row)}>${text}</a>`;
}

function columns(session) {
  return [
    { id: "name", title: "Name", width: "minmax(220px, 2fr)", show: name, sorts: "up" },
    { id: "kind", title: "Kind", width: "80px", show: (row) => row.kind || "", sorts: "up" },
    { id: "first", title: "First seen", width: "150px", show: (row) => (row.label === undefined ? html`<span title=${utc(row.first)}>${clock(row.first)}</span>` : ""), sorts: "down" },
    { id: "program", title: "By program", width: "minmax(160px, 2fr)", mono: true, rest: true, show: (row) => visible(row.program || ""), sorts: "up" },
    { id: "container", title: "Container", width: "minmax(80px, 1fr)", show: (row) => visible(row.container || ""), sorts: "up" },
    { id: "host", title: "Host", width: "minmax(60px, 0.6fr)", show: (row) => (row.label === undefined ? visible(row.host ?? session?.host ?? "") : ""), spare: true },
  ];
}
