// Ranges of time: live, a length before now, or two times. In the address they stand as the command line takes them.

import { change } from "./address.js";
import { visible } from "./format.js";
import { html, useState } from "./html.js";

const LENGTHS = { "-1h": "Last hour", "-6h": "Last 6 hours", "-1d": "Last day", "-7d": "Last 7 days" };
const AGO = /^-(?=\d)(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?$/;
const UNITS = [86400, 3600, 60, 1]; // seconds of each part of AGO
const CLOCK = /^(?:(today|yesterday)\s+)?(\d{1,2}):(\d\d)(?::(\d\d(?:\.\d{1,6})?))?$/;
const DATE = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(?::(\d\d(?:\.\d+)?))?(Z|[+-]\d\d:\d\d)?)?$/i;
const SCALES = [[1e17, 1e9], [1e14, 1e6], [1e11, 1e3]]; // the least number of ns, of µs and of ms; a smaller one is of seconds
const LAST = 4_323_455_642; // seconds: the last time of the server

/**
 * Return a time of an address in seconds since the epoch: -2h30m, yesterday 14:00, RFC 3339, or a number of seconds, ms,
 * µs or ns by its size. Without a zone it is local. null: there is none; NaN: the text is no time, or one out of range.
 */
export function moment(text, now = Date.now() / 1000) {
  if (!text) return null;
  const value = read(text, now);
  return value >= 0 && value <= LAST ? value : NaN;
}

function read(text, now) {
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) / (SCALES.find(([least]) => Number(text) >= least)?.[1] || 1);
  const ago = AGO.exec(text);
  if (ago) return now - UNITS.reduce((sum, unit, place) => sum + unit * Number(ago[place + 1] || 0), 0);
  const clock = CLOCK.exec(text);
  if (clock) return onDay(clock, now);
  const [, day, minute = "00:00", seconds = "00", zone = ""] = DATE.exec(text) || [];
  return Number(seconds) < 60 ? Date.parse(`${day}T${minute}:00${zone.toUpperCase()}`) / 1000 + Number(seconds) : NaN;
}

/** Return a time of today or yesterday; NaN for one in the future, which the command line refuses. */
function onDay([, day, hours, minutes, seconds = "00"], now) {
  const date = new Date(now * 1000);
  if (day === "yesterday") date.setDate(date.getDate() - 1);
  const at = date.setHours(Number(hours), Number(minutes), 0, 0) / 1000 + Number(seconds);
  return Number(hours) < 24 && Number(minutes) < 60 && Number(seconds) < 60 && at <= now ? at : NaN;
}

/** Return the first of some texts of an address that is no time; undefined if each is one, or is left out. */
export function wrongTime(...texts) {
  return texts.find((text) => Number.isNaN(moment(text)));
}

/** State that a text of the address is no time. Nothing is asked for then. */
export function NoTime({ text }) {
  return html`<div class="notice error" role="alert">"${visible(text)}" is no past time: write -2h30m, yesterday 14:00, 2026-11-01T14:00:00Z or epoch seconds.</div>`;
}

/** Return a time as the input of a local time takes it; "" for none. */
export function localInput(seconds) {
  if (!Number.isFinite(seconds)) return "";
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
