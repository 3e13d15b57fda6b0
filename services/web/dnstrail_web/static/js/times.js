// Ranges of time: live, a length before now, or two times. In the address they stand as the command line takes them.

import { change } from "./address.js";
import { html, useState } from "./html.js";

const LENGTHS = { "-1h": "Last hour", "-6h": "Last 6 hours", "-1d": "Last day", "-7d": "Last 7 days" };
const UNITS = { s: 1, m: 60, h: 3600, d: 86400 };

/** Return a time of an address in seconds since the epoch: -1h, RFC 3339, or seconds. null: none. */
export function moment(text, now = Date.now() / 1000) {
  if (!text) return null;
  const before = /^-(\d+)([smhd])$/.exec(text);
  if (before) return now - Number(before[1]) * UNITS[before[2]];
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Date.parse(text) / 1000;
  return Number.isFinite(value) ? value : null;
}

/** Return a time as the input of a local time takes it. */
export function localInput(seconds) {
  const date = new Date(seconds * 1000);
  return new Date(date - date.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
}

/** Choose a range: `since` and `until` of the address. Without them it is the feed if `live`, else the `usual` one. */
export function Range({ since, until, live, usual = "-1h" }) {
  const known = Object.hasOwn(LENGTHS, since) && !until;
  const [own, setOwn] = useState(Boolean(since) && !known);
  const value = own ? "own" : known ? since : live ? "" : usual;
  const choose = (event) => {
    const chosen = event.target.value;
    setOwn(chosen === "own");
    if (chosen === "own") change({ since: new Date(Date.now() - 3600e3).toISOString(), until: new Date().toISOString() });
    else change({ since: live || chosen !== usual ? chosen : "", until: "" });
  };
  const set = (name) => (event) => event.target.value && change({ [name]: new Date(event.target.value).toISOString() });
  return html`<label class="field">Time
    <select value=${value} onChange=${choose}>
      ${live && html`<option value="">Live</option>`}
      ${Object.entries(LENGTHS).map(([length, name]) => html`<option value=${length} key=${length}>${name}</option>`)}
      <option value="own">Between …</option>
    </select></label>
    ${own && html`
      <label class="field">from <input type="datetime-local" step="1" value=${since && localInput(moment(since))} onChange=${set("since")} /></label>
      <label class="field">to <input type="datetime-local" step="1" value=${until && localInput(moment(until))} onChange=${set("until")} /></label>`}`;
}
