// One finding: its arguments, its trail, and the form that mutes it.

import { href } from "../address.js";
import { get } from "../api.js";
import { clock, visible } from "../format.js";
import { html, useEffect, useState } from "../html.js";
import { Paths } from "../trail/paths.js";
import { findings, isSimple } from "./state.js";

const LENGTHS = [[3600, "1 hour"], [28800, "8 hours"], [86400, "1 day"], [604800, "7 days"], [2592000, "30 days"]];
const KEYS = ["dst", "dns_root", "name", "address", "domain", "query", "answer"];
const NAME = /^[a-z0-9_-]+(\.[a-z0-9_-]+)+$|^\d+(\.\d+){3}$|^[0-9a-f]*:[0-9a-f:]+$/i;

/** Return the argument with the name or address that a finding is about; undefined without one. */
function keyArgument(finding) {
  const texts = finding.args.filter((arg) => typeof arg.value === "string" && NAME.test(arg.value));
  const known = KEYS.map((name) => texts.find((arg) => arg.name === name)).find(Boolean);
  return known || texts[0];
}

export function Finding({ finding, onClose }) {
  const at = (Number(finding.timestamp) / 1e9).toFixed(6); // a lookup reads the whole microsecond
  const key = keyArgument(finding)?.value;
  const mute = findings.muteOf(finding);
  const { Description: description } = finding.metadata || {};
  return html`<aside class="side" aria-label="Finding">
    <div class="title"><h2>${finding.eventName}</h2><button type="button" class="plain" onClick=${onClose}>Close</button></div>
    <section>${description && html`<p>${visible(description)}</p>`}
      <dl class="facts">
        <dt>Time</dt><dd>${clock(Number(at), true)}</dd>
        <dt>Process</dt><dd>${visible(finding.processName || "none")} ${finding.processId || ""}</dd>
        ${finding.hostName && html`<dt>Host</dt><dd>${visible(finding.hostName)}</dd>`}
        ${finding.args.filter((arg) => isPlain(arg.value)).map((arg, place) => html`<dt key=${`${place}`}>${visible(arg.name)}</dt><dd key=${`${place}=`} class="mono">${shown(arg.value)}</dd>`)}
      </dl></section>
    ${key && html`<${TrailOf} name=${key} at=${at} />`}
    <section><h3>Mute</h3>${mute ? html`<p class="quiet">Muted until ${clock(mute.until)}.</p>` : html`<${MuteForm} finding=${finding} />`}</section>
  </aside>`;
}

/** Return whether a value can be read in a line; the event that triggered the finding cannot, and stands in the export. */
function isPlain(value) {
  return Array.isArray(value) ? value.every((one) => typeof one !== "object") : typeof value !== "object" && value !== "";
}

function shown(value) {
  return visible(Array.isArray(value) ? value.join(", ") : value);
}

function TrailOf({ name, at }) {
  const [state, set] = useState({});
  useEffect(() => {
    const abort = new AbortController();
    get("trail", { key: name, at, limit: 5 }, abort.signal).then(
      (reply) => set({ trails: reply.data.trails }),
      (error) => error.name === "AbortError" || set({ error }),
    );
    return () => abort.abort();
  }, [name, at]);
  return html`<section><h3>Trail of <span class="mono">${visible(name)}</span></h3>
    ${state.error && html`<p class="quiet">${state.error.error === "data_not_found" ? "No answer named it at that time." : state.error.message}</p>`}
    ${state.trails && html`<${Paths} trails=${state.trails} at=${at} />`}
    <p><a href=${href("trail", { key: name, at })}>Open the trail</a></p></section>`;
}

/** Mute findings like this one: each choice makes the mute narrower. */
function MuteForm({ finding }) {
  const values = finding.args.filter((arg) => isSimple(arg.value) && arg.value !== "");
  const [argument, setArgument] = useState(keyArgument(finding)?.name || "");
  const [process, setProcess] = useState(Boolean(finding.processName));
  const [unit, setUnit] = useState(false);
  const [seconds, setSeconds] = useState(86400);
  const [note, setNote] = useState("");
  const [failure, setFailure] = useState("");
  const submit = (event) => {
    event.preventDefault();
    const chosen = values.find((arg) => arg.name === argument);
    const body = { event: finding.eventName, process: process ? finding.processName : "", unit: unit ? finding.unit : "", seconds: Number(seconds), note };
    findings.mute(chosen ? { ...body, argument, value: String(chosen.value) } : body).catch((error) => setFailure(error.message));
  };
  return html`<form class="form" onSubmit=${submit}>
    <label>Only with <select value=${argument} onChange=${(event) => setArgument(event.target.value)}>
      <option value="">any arguments</option>
      ${values.map((arg) => html`<option value=${arg.name} key=${arg.name}>${visible(arg.name)} ${visible(arg.value)}</option>`)}</select></label>
    ${finding.processName && html`<label class="check"><input type="checkbox" checked=${process} onChange=${(event) => setProcess(event.target.checked)} /> Only of ${visible(finding.processName)}</label>`}
    ${finding.unit && html`<label class="check"><input type="checkbox" checked=${unit} onChange=${(event) => setUnit(event.target.checked)} /> Only of ${visible(finding.unit)}</label>`}
    <label>For <select value=${seconds} onChange=${(event) => setSeconds(event.target.value)}>${LENGTHS.map(([length, name]) => html`<option value=${length} key=${length}>${name}</option>`)}</select></label>
    <label>Note <input maxlength="200" value=${note} onInput=${(event) => setNote(event.target.value)} /></label>
    ${failure && html`<p class="bad" role="alert">${failure}</p>`}
    <button type="submit" class="main">Mute</button></form>`;
}
