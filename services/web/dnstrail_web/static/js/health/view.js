// Health: outcomes and latencies over time, by resolver and by process, beside what the capture lost.

import { change } from "../address.js";
import { get } from "../api.js";
import { Command, commandLine } from "../command.js";
import { saveCsv, saveJson } from "../export.js";
import { clock, count, duration, percent, visible } from "../format.js";
import { Grid } from "../grid.js";
import { html, useEffect, useMemo, useState } from "../html.js";
import { network } from "../now/filter.js";
import { poll } from "../pace.js";
import { moment, NoTime, Range, wrongTime } from "../times.js";
import { Chart, Latency, PARTS, total } from "./chart.js";
import { bucketRows, columnsOf, EXPORTED, rowsOf } from "./buckets.js";

const EVERY = 5000; // ms
const EVERY_PAST = 60_000; // ms, of a longer time, which may have to be read from the history
const FEWEST = 30; // columns
const SUMS = ["(others)", "(unknown)"]; // keys of the server that no entry of the log has

export function Health({ params }) {
  const by = params.by === "processes" ? "processes" : "resolvers";
  const [state, set] = useState({});
  const wrong = params.since && wrongTime(params.since, params.until);
  useEffect(() => {
    if (wrong) {
      set({});
      return undefined;
    }
    const read = (signal) =>
      get("health", params.since ? { since: moment(params.since), until: moment(params.until) } : {}, signal).then(
        (reply) => set({ data: { ...reply.data, now: moment(params.until) ?? reply.data.now }, complete: reply.complete }),
        (error) => error.name === "AbortError" || set((now) => ({ ...now, error })),
      );
    return poll(read, params.since ? EVERY_PAST : EVERY);
  }, [params.since, params.until]);

  const [sort, setSort] = useState({ by: "total", down: true });
  const { data } = state;
  const since = params.since ? moment(params.since, data?.now) : data ? sinceStart(data) : 0;
  const columns = useMemo(() => (data ? columnsOf(data, by, params.key, since) : []), [data, by, params.key, params.since]);
  const rows = useMemo(() => (data ? rowsOf(data, by, sort) : []), [data, by, sort]);
  const lost = columns.reduce((sum, one) => sum + (one.lost || 0), 0);
  const lossy = columns.filter((one) => one.lost > 0);
  const what = `Questions${params.key ? ` ${by === "resolvers" ? "to" : "of"} ${visible(params.key)}` : ""}`;
  return html`
    <h1 class="hidden">Health</h1>
    <div class="bar">
      <${Range} since=${params.since} until=${params.until} />
      <div class="choice" role="group" aria-label="By">
        ${["resolvers", "processes"].map((one) => html`<button type="button" key=${one} aria-pressed=${by === one} onClick=${() => change({ by: one === "resolvers" ? "" : one, key: "" })}>${one === "resolvers" ? "Resolvers" : "Processes"}</button>`)}</div>
      ${params.key && html`<span class="field">Only <b class="mono">${visible(params.key)}</b> <button type="button" class="plain" onClick=${() => change({ key: "" })}>All</button></span>`}
      <div class="end"><${Status} state=${state} />
        <button type="button" onClick=${() => saveCsv("dnstrail-health", EXPORTED, bucketRows(data, by, params.key))}>CSV</button>
        <button type="button" onClick=${() => saveJson("dnstrail-health", bucketRows(data, by, params.key))}>JSON</button></div>
    </div>
    ${wrong && html`<${NoTime} text=${wrong} />`}
    ${state.error && html`<div class="notice error" role="alert">${state.error.message}</div>`}
    ${state.complete === false && html`<div class="notice" role="status"><b>The history was read in part</b>: it has more questions in this time than the server reads at once. Choose a shorter time.</div>`}
    ${lost > 0 && html`<div class="notice" role="status"><b>${count(lost)} events lost</b> in ${lossy.length === 1 ? "one interval" : `${lossy.length} intervals`} between ${clock(lossy[0].start)} and ${clock(lossy.at(-1).start + data.seconds)}: in the hatched part, fewer questions were seen than asked.</div>`}
    <div class="charts">
      <div class="legend">${PARTS.map(([id, name]) => html`<span key=${id}><i class=${`part ${id}`}></i>${name}</span>`)}<span><i class="lost"></i>Events lost</span><span><i class="uncounted"></i>Losses not counted</span></div>
      <h2>${what} by outcome</h2>
      <${Chart} columns=${columns} seconds=${data?.seconds || 60} label=${`${what} by outcome`} />
      <h2>Wait for an answer <span class="quiet">median <i class="swatch median"></i> p95 <i class="swatch p95"></i></span></h2>
      <${Latency} columns=${columns} label=${`${what}: wait for an answer`} />
    </div>
    <${Grid} label=${by === "resolvers" ? "By resolver" : "By process"} rows=${rows} columns=${table(by)} sort=${sort} onSort=${setSort} chosen=${params.key}
      onChoose=${(row) => change({ key: params.key === row.key ? "" : row.key })} empty=${wrong ? "" : data ? "No question in this time." : "Reading …"} />
    <${Command} text=${wrong ? "" : command(params, by)} />`;
}

/** Return the time of the first bucket, so that a worker that started a minute ago has no empty chart. */
function sinceStart({ buckets, seconds, now }) {
  const first = buckets.length ? buckets[0].start : now;
  return Math.max(now - 3600, Math.min(first, now - FEWEST * seconds));
}

function Status({ state }) {
  if (!state.data) return null;
  const { status } = state.data;
  const tone = status === "ok" ? "good" : "bad";
  return html`<span class=${`tag ${tone}`}>${status ? `cache ${status}` : "no cache answers"}</span>`;
}

function command(params, by) {
  if (SUMS.includes(params.key)) return "";
  const time = params.since ? [["--since", params.since], ["--until", params.until]] : [["--since", "-1h"]];
  const log = (...options) => commandLine(["dnstrail", "log"], [...time, ...options]);
  if (!params.key) return `${params.since ? "" : "dnstrail health; dnstrail stats; "}${log(["--outcome", "unanswered"])}`;
  const ofClient = network(params.key) !== null; // the key of a question without a process is the address of its client
  if (by === "processes" && !ofClient) return log(["--process", params.key]);
  const text = JSON.stringify(params.key);
  const fits = by === "processes" ? `.process_name == "" and .src == ${text}` : `(.resolver // .dst) == ${text}`;
  return `${log(["--json", true])} | ${commandLine(["jq", `select(${fits})`])}`;
}

const share = (id) => (row) => (row.parts[id] ? `${percent(row.parts[id], total(row))}` : "");

function table(by) {
  return [
    { id: "key", title: by === "resolvers" ? "Resolver" : "Process", width: "minmax(160px, 2fr)", mono: by === "resolvers", show: (row) => visible(row.key), sorts: "up" },
    { id: "total", title: "Questions", width: "90px", number: true, show: (row) => count(total(row)), sorts: "down", unit: "questions" },
    { id: "unanswered", title: "Unanswered", width: "96px", number: true, show: share("unanswered"), tone: () => "bad", sorts: "down", unit: "unanswered" },
    { id: "nxdomain", title: "NXDOMAIN", width: "90px", number: true, show: share("nxdomain"), sorts: "down", unit: "NXDOMAIN" },
    { id: "failed", title: "Failed", width: "76px", number: true, show: share("failed"), tone: () => "bad", sorts: "down", unit: "failed" },
    { id: "median", title: "Median", width: "80px", number: true, show: (row) => duration(row.median), sorts: "down", spare: true },
    { id: "p95", title: "p95", width: "80px", number: true, show: (row) => duration(row.p95), sorts: "down", unit: "p95" },
    { id: "slowest", title: "Slowest", width: "80px", number: true, show: (row) => duration(row.slowest), sorts: "down", spare: true },
  ];
}
