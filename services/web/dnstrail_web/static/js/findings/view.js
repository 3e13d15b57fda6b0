// Findings: the feed of the signatures, each with its trail, and the mutes.

import { change } from "../address.js";
import { Command, commandLine } from "../command.js";
import { saveCsv, saveJson } from "../export.js";
import { clock, count, utc, visible } from "../format.js";
import { Grid } from "../grid.js";
import { html, useEffect, useMemo, useState } from "../html.js";
import { useChanges, useSeconds } from "../pace.js";
import { Finding } from "./finding.js";
import { findings, idOf } from "./state.js";

export const SEVERITY = ["information", "low", "medium", "high"];

export function severityOf(finding) {
  return finding.metadata?.Properties?.Severity ?? 0;
}

/** Return the arguments of a finding in a line. */
export function subject(finding) {
  return finding.args.filter((arg) => ["string", "number", "boolean"].includes(typeof arg.value) && arg.value !== "").slice(0, 4).map((arg) => `${arg.name} ${visible(arg.value)}`).join("  ");
}

const COLUMNS = ["time", "event", "severity", "process", "process_id", "host", "muted", "arguments"];

export function Findings({ params }) {
  useChanges(findings, 4);
  useSeconds(10); // mutes expire
  useEffect(() => {
    findings.looked(true);
    return () => findings.looked(false);
  }, []);
  const events = [...new Set(findings.list.map((one) => one.eventName))].sort();
  const text = (params.filter || "").toLowerCase();
  const fits = (one) => (!params.event || one.eventName === params.event) && (params.muted === "1" || !findings.muteOf(one)) && (!text || `${one.eventName} ${one.processName} ${subject(one)}`.toLowerCase().includes(text));
  const shown = findings.list.filter(fits);
  const rows = shown.map((one) => ({ key: idOf(one), finding: one }));
  const hidden = findings.list.filter((one) => findings.muteOf(one)).length;
  const chosen = findings.list.find((one) => idOf(one) === params.finding);
  const exported = shown.map((one) => ({ time: utc(Number(one.timestamp) / 1e9), event: one.eventName, severity: SEVERITY[severityOf(one)], process: one.processName, process_id: one.processId, host: one.hostName, muted: Boolean(findings.muteOf(one)), arguments: subject(one) }));
  return html`
    <h1 class="hidden">Findings</h1>
    <div class="bar">
      <label class="field">Event <select value=${params.event || ""} onChange=${(event) => change({ event: event.target.value })}>
        <option value="">All</option>${events.map((name) => html`<option value=${name} key=${name}>${name}</option>`)}</select></label>
      <label class="field"><input type="checkbox" checked=${params.muted === "1"} onChange=${(event) => change({ muted: event.target.checked ? "1" : "" })} /> Show muted${hidden ? ` (${count(hidden)})` : ""}</label>
      <label class="field wide">Filter <input class="mono" type="search" id="filter" value=${params.filter || ""} placeholder="event, process or argument" onInput=${(event) => change({ filter: event.target.value }, { replace: true })} /></label>
      <div class="end"><button type="button" onClick=${() => saveCsv("dnstrail-findings", COLUMNS, exported)}>CSV</button>
        <button type="button" onClick=${() => saveJson("dnstrail-findings", shown)}>JSON</button></div>
    </div>
    ${findings.failure && html`<div class="notice error" role="alert">${findings.failure.message}</div>`}
    <div class="split">
      <${Grid} label="Findings, the newest first" rows=${rows} columns=${columns} chosen=${params.finding} onChoose=${(row) => change({ finding: row.key })}
        empty="No finding since the worker of this page runs." />
      ${chosen && html`<${Finding} key=${idOf(chosen)} finding=${chosen} onClose=${() => change({ finding: "" })} />`}
    </div>
    <${Mutes} />
    <${Command} text=${commandLine(["dnstrail", "--output", "json"], [["--events", params.event || events.join(",") || "EVENT,..."]])} />`;
}

function Mutes() {
  const [failure, set] = useState("");
  if (!findings.mutes.length) return null;
  const end = (id) => findings.unmute(id).then(() => set(""), (error) => set(error.message));
  return html`<section class="mutes" aria-label="Mutes"><h2>Mutes</h2>
    ${failure && html`<p class="bad" role="alert">${failure}</p>`}
    <ul class="plain-list">${findings.mutes.map((mute) => html`<li key=${mute.id}>
      <b>${visible(mute.event)}</b>${mute.value && html` with ${mute.argument && `${visible(mute.argument)} `}<span class="mono">${visible(mute.value)}</span>`}${mute.process && html` of ${visible(mute.process)}`}${mute.unit && html` in ${visible(mute.unit)}`}
      <span class="quiet"> until ${clock(mute.until)}${mute.note ? `, ${visible(mute.note)}` : ""}</span>
      <button type="button" class="plain" onClick=${() => end(mute.id)}>End<span class="hidden"> the mute of ${mute.event} ${mute.value}</span></button></li>`)}</ul></section>`;
}

const tone = ["", "", "warn", "bad"];
const columns = [
  { id: "event", title: "Event", width: "minmax(220px, 1.2fr)", show: ({ finding }) => html`${finding.eventName}${findings.muteOf(finding) ? html` <span class="tag">muted</span>` : ""}` },
  { id: "time", title: "Time", width: "minmax(76px, 150px)", show: ({ finding }) => html`<span title=${utc(Number(finding.timestamp) / 1e9)}>${clock(Number(finding.timestamp) / 1e9)}</span>` },
  { id: "severity", title: "Severity", width: "88px", show: ({ finding }) => html`<span class=${`tag ${tone[severityOf(finding)] || ""}`}>${SEVERITY[severityOf(finding)] || ""}</span>` },
  { id: "process", title: "Process", width: "minmax(110px, 0.8fr)", show: ({ finding }) => `${visible(finding.processName || "")} ${finding.processId || ""}` },
  { id: "subject", title: "Arguments", width: "minmax(160px, 2fr)", mono: true, rest: true, show: ({ finding }) => subject(finding) },
];
