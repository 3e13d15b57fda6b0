// Figures and times as text. Times are seconds since the epoch, shown in the zone of the browser.

const two = (number) => String(number).padStart(2, "0");

/** Return the time of day, to the millisecond if `fine`; with its date unless it is today. */
export function clock(seconds, fine = false) {
  const date = new Date(seconds * 1000);
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  const exact = fine ? `${time}.${String(date.getMilliseconds()).padStart(3, "0")}` : time;
  return date.toDateString() === new Date().toDateString() ? exact : `${day(seconds)} ${exact}`;
}

/** Return the date as 2026-11-29. */
export function day(seconds) {
  const date = new Date(seconds * 1000);
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

/** Return date and time in UTC (RFC 3339), as the command line takes it. */
export function utc(seconds) {
  return new Date(seconds * 1000).toISOString().replace(/\.000Z$/, "Z");
}

/** Return a number with thin groups of thousands. */
export function count(number) {
  return number === undefined || number === null ? "" : String(number).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** Return a number of bytes: 812, 4.2 kB, 31 MB. */
export function bytes(number) {
  if (number === undefined || number === null) return "";
  let unit = 0;
  let rest = number;
  for (; rest >= 999.5 && unit < 4; unit += 1) rest /= 1000;
  return unit ? `${rest < 9.95 ? rest.toFixed(1) : Math.round(rest)}\u00a0${" kMGT"[unit]}B` : `${number}\u00a0B`;
}

/** Return a length of time: 0.4 ms, 12 ms, 5.02 s, 3 min, 2 h 5 min, 4 d. */
export function duration(seconds) {
  if (seconds === undefined || seconds === null) return "";
  if (seconds < 0.00995) return `${(seconds * 1000).toFixed(1)}\u00a0ms`;
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)}\u00a0ms`;
  if (seconds < 9.995) return `${seconds.toFixed(1)}\u00a0s`;
  if (seconds < 99.5) return `${Math.round(seconds)}\u00a0s`;
  if (seconds < 5970) return `${Math.round(seconds / 60)}\u00a0min`;
  if (seconds < 172800) return `${(seconds / 3600).toFixed(1)}\u00a0h`;
  return `${Math.round(seconds / 86400)}\u00a0d`;
}

/** Return a share as a percentage. */
export function percent(part, whole) {
  if (!whole) return "";
  const share = (100 * part) / whole;
  return share === 0 ? "0\u00a0%" : share < 0.95 ? `${share.toFixed(1)}\u00a0%` : `${Math.round(share)}\u00a0%`;
}

/** Return characters that could hide or reorder text as escapes: controls, and marks of direction. */
export function visible(text) {
  return String(text).replace(HIDDEN, (one) => `\\u{${one.codePointAt(0).toString(16)}}`);
}
// eslint-disable-next-line no-control-regex
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/gu;

/** Return the name of a container, else its id as Docker prints it, behind the user; "" on the host. */
export function containerText({ container_id: id, container_name: name }) {
  return name || (id || "").replace(/[^/]*$/, (own) => own.slice(0, 12));
}

export const OUTCOMES = {
  answered: "answered",
  no_data: "no data",
  nxdomain: "NXDOMAIN",
  refused: "refused",
  failed: "failed",
  truncated: "truncated",
  unanswered: "unanswered",
  unknown: "unknown",
};

export const BOUND = {
  thread: "own thread",
  process: "own process",
  parent: "parent process",
  daemon: "service for this process",
  last: "last question",
  sni: "server name (TLS)",
  host: "server name (HTTP)",
};

/** Return how a connection was bound, in words. */
export function boundWords(bound) {
  return bound ? BOUND[bound] || bound : "no name";
}
