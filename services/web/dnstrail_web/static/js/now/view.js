// Now: who talks to whom. Live from the feed, or of a past time from the history.

import { change } from "../address.js";
import { commandLine, Command } from "../command.js";
import { saveCsv, saveJson } from "../export.js";
import { clock, count } from "../format.js";
import { Grid } from "../grid.js";
import { html, useEffect, useMemo, useRef, useState } from "../html.js";
import { useChanges } from "../pace.js";
import { NoTime, Range, wrongTime } from "../times.js";
import { groupColumns, listColumns } from "./columns.js";
import { Detail } from "./detail.js";
import { MOST_PAST } from "./facts.js";
import { FIELDS, matcher, parseFilter } from "./filter.js";
import { List } from "./list.js";
import { live, MOST_MISSED } from "./live.js";
import { usePast } from "./past.js";
import { factRows, groupRows } from "./rows.js";
import { GROUPS, Tree } from "./tree.js";

const NAMES = { process: "Process", container: "Container", unit: "Unit", host: "Host", domain: "Domain", address: "Address", none: "Each fact" };
const DOWN = { by: "lookups", down: true };
const FRAMES = 4; // a second

export function Now({ params, session }) {
  const group = Object.hasOwn(NAMES, params.group) ? params.group : "process";
  const { options, wrong } = useMemo(() => parseFilter(params.filter || ""), [params.filter]);
  const isLive = !params.since;
  const misread = params.since && wrongTime(params.since, params.until);
  const past = usePast(misread ? "" : params.since, params.until, options);
  const facts = isLive ? live.facts : past;
  const projection = useMemo(() => {
    const made = group === "none" ? new List() : new Tree(GROUPS[group]);
    facts.project(made, matcher(options));
    return made;
  }, [facts, group, options]);
  useChanges(facts, FRAMES);

  const [sort, setSort] = useState(DOWN);
  const [turned, setTurned] = useState(() => new Set());
  const [chosen, setChosen] = useState(null);
  const [paused, setPaused] = useState(false);
  const [scrolled, setScrolled] = useState(false);
  const held = useRef(false);
  const before = useRef({ rows: [], projection: null });
  const isOpen = (row) => (row.level === 0 && group !== "address" && group !== "none") !== turned.has(row.key);
  const frozen = (paused || (scrolled && group === "none")) && isLive && before.current.projection === projection;
  const rows = frozen && group === "none" ? before.current.rows : group === "none" ? projection.rows() : frozen ? before.current.rows : projection.rows(isOpen, sort, held.current);
  before.current = { rows, projection };
  useEffect(() => setChosen(null), [projection]);

  const open = (row) => {
    const next = new Set(turned);
    if (!next.delete(row.key)) next.add(row.key);
    setTurned(next);
    setPaused(false);
  };
  const exported = () => (group === "none" ? factRows(rows) : groupRows(projection.leaves(), GROUPS[group]));
  const save = (csv) => {
    const { columns, objects } = exported();
    const name = `dnstrail-${group === "none" ? "facts" : `by-${group}`}`;
    csv ? saveCsv(name, columns, objects) : saveJson(name, objects);
  };
  const kept = rows.find((row) => row.key === chosen) || (chosen && find(projection, chosen));
  return html`
    <h1 class="hidden">Now: who talks to whom</h1>
    <div class="bar">
      <${Range} since=${params.since} until=${params.until} live=${true} />
      <label class="field">Group by <select value=${group} onChange=${(event) => change({ group: event.target.value === "process" ? "" : event.target.value })}>
        ${Object.entries(NAMES).map(([id, name]) => html`<option value=${id} key=${id}>${name}</option>`)}</select></label>
      <${FilterField} text=${params.filter || ""} wrong=${wrong} />
      <div class="end">
        ${isLive && html`<button type="button" aria-pressed=${paused} onClick=${() => setPaused(!paused)}>Pause</button>`}
        <button type="button" onClick=${() => save(true)}>CSV</button>
        <button type="button" onClick=${() => save(false)}>JSON</button>
      </div>
    </div>
    ${misread ? html`<${NoTime} text=${misread} />` : html`<${Coverage} facts=${facts} isLive=${isLive} projection=${projection} session=${session} />`}
    <div class="split">
      <${Grid} label=${`Facts by ${NAMES[group].toLowerCase()}`} rows=${rows} columns=${group === "none" ? listColumns : groupColumns}
        sort=${group === "none" ? undefined : sort} onSort=${setSort} onOpen=${group === "none" ? undefined : open}
        onChoose=${(row) => setChosen(row.key)} chosen=${chosen} hold=${(value) => (held.current = value)}
        onScroll=${(top) => setScrolled(top > 40)} empty=${misread ? "" : emptyText(facts, isLive, params.filter)} />
      ${kept && html`<${Detail} row=${kept} at=${isLive ? null : kept.last || kept.time} onClose=${() => setChosen(null)} />`}
    </div>
    <${Command} text=${misread ? "" : command(params, group, options)} />`;
}

function find(projection, key) {
  if (projection instanceof List) return null;
  let group = projection.root;
  for (const part of key.split("\u0000").slice(1)) group = group?.children.get(part.slice(part.indexOf(":") + 1));
  return group;
}

function FilterField({ text, wrong }) {
  const [typed, setTyped] = useState(text);
  const timer = useRef(0);
  useEffect(() => setTyped(text), [text]);
  const type = (event) => {
    const value = event.target.value;
    setTyped(value);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => change({ filter: value.trim() }, { replace: true }), 250);
  };
  return html`<label class="field wide">Filter
    <input class="mono" type="search" id="filter" spellcheck="false" autocomplete="off" value=${typed} onInput=${type}
      placeholder="part of a name, process:curl, outcome:nxdomain, slower:200ms" aria-invalid=${wrong.length > 0} aria-describedby="filter-help" />
    <span id="filter-help" class=${wrong.length ? "bad" : "hidden"}>${wrong.length ? `not understood: ${wrong.join(" ")}` : `Fields: ${FIELDS.join(", ")}. Patterns as in a shell.`}</span></label>`;
}

const FOUND = {
  reading: "reading the history of this time …",
  all: "the facts of this time are from the history",
  newest: `of this time the newest ${count(MOST_MISSED)} facts of each kind are shown, from the history`,
  none: "the facts of this time are missing",
};

/** Which facts are shown, and whether some are missing. */
function Coverage({ facts, isLive, projection, session }) {
  if (facts.failure) return html`<div class="notice error" role="alert">${facts.failure.error === "no_history" ? "No history is kept on this host: only live facts can be shown." : facts.failure.message}</div>`;
  const parts = [];
  const most = count(MOST_PAST);
  if (facts.left) parts.push(`only the newest ${count(facts.most)} facts are held`);
  if (isLive && facts.since) parts.push(`since ${clock(facts.since)}`);
  if (facts.loading) parts.push("reading the history …");
  const hidden = facts.size - projection.size;
  return html`${facts.cut.map((kind) => html`<div class="notice" role="status" key=${kind}><b>Not all ${kind} of this time are shown</b>: it has more than ${most}, and only the newest are read. Choose a shorter time, or a filter.</div>`)}
    ${isLive && live.gap && html`<div class="notice" role="status"><b>No feed from ${clock(live.gap.from)} to ${clock(live.gap.until)}</b>: ${FOUND[live.gap.found]}.</div>`}
    <p class="notes quiet" role="status">${count(projection.size)} facts${parts.length ? `, ${parts.join(", ")}` : ""}${hidden > 0 ? `; the filter hides ${count(hidden)}` : ""}${session && !session.history && isLive ? ". No history is kept" : ""}</p>`;
}

function emptyText(facts, isLive, filter) {
  if (facts.loading) return "Reading …";
  if (filter && facts.size) return "No fact fits the filter.";
  return isLive ? "Nothing yet. A question appears when it has ended, a connection when it is opened." : "The history knows no question and no connection of this time.";
}

function command(params, group, options) {
  const { outcome = [], ...rest } = options;
  const time = params.since ? [["--since", params.since], ["--until", params.until]] : [["--follow", true]];
  const chosen = Object.entries(rest).map(([name, value]) => [`--${name}`, value]);
  return commandLine(["dnstrail", "log"], [...time, ...chosen, ...outcome.map((one) => ["--outcome", one]), ["--json", group === "none"]]);
}
