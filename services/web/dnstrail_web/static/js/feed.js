// The feed of facts and findings: one stream of server-sent events for the page, resumed by the id of the last one.

import { get, parse } from "./api.js";

const SLEEP = 60_000; // ms that a hidden page keeps its stream
const LONGEST = 30_000; // ms between two attempts
const DOZE = 5; // seconds without a turn of this page after which it slept
export const KINDS = ["questions", "connections", "findings"];

/** "begin": a stream is open that resumes no other one, so what was before has to be read. "gap": facts are missing. */
class Feed extends EventTarget {
  constructor() {
    super();
    this.state = "connecting"; // live, waiting, asleep, over
    this.missed = 0; // facts that did not reach this page, as far as they are counted
    this.rate = 0; // facts a second
    this._takers = new Map(KINDS.map((kind) => [kind, new Set()]));
    this._last = "";
    this._heard = Date.now() / 1000; // the last time at which this page heard the stream, in seconds
    this._source = null;
    this._attempts = 0;
    this._facts = 0;
    this._timer = 0;
  }

  /** Call `take` with each list of entries of a kind. Returns what ends it. */
  on(kind, take) {
    this._takers.get(kind).add(take);
    return () => this._takers.get(kind).delete(take);
  }

  start() {
    this._open();
    setInterval(() => this._count(), 1000);
    document.addEventListener("visibilitychange", () => {
      clearTimeout(this._sleep);
      if (document.hidden) this._sleep = setTimeout(() => this._close("asleep"), SLEEP);
      else if (!this._source && this.state !== "over") this._open();
    });
  }

  stop() {
    this._close("over");
  }

  _open() {
    clearTimeout(this._timer);
    const query = new URLSearchParams({ kinds: KINDS.join(",") });
    if (this._last) query.set("after", this._last);
    const source = new EventSource(`/api/events?${query}`);
    this._source = source;
    source.onopen = () => {
      this._attempts = 0;
      this._become("live");
      if (!this._last) this.dispatchEvent(new Event("begin"));
    };
    source.onerror = () => this._broken(source);
    for (const kind of KINDS) source.addEventListener(kind, (event) => this._take(kind, event));
    source.addEventListener("notice", (event) => this._notice(JSON.parse(event.data)));
  }

  _take(kind, event) {
    this._last = event.lastEventId || this._last;
    this._heard = Date.now() / 1000;
    const entries = parse(event.data);
    this._facts += entries.length;
    for (const take of this._takers.get(kind)) take(entries);
  }

  _notice(notice) {
    this.missed += notice.missed || 0;
    if (notice.reason === "gap") this._last = "";
    this.dispatchEvent(new CustomEvent("gap", { detail: { ...notice, from: this._heard, at: Date.now() / 1000 } }));
    this._changed();
  }

  /** Try again with growing pauses: a browser gives a stream up whose answer is an error. */
  _broken(source) {
    if (source !== this._source) return;
    if (source.readyState !== EventSource.CLOSED) {
      this._become("waiting");
      return;
    }
    this._close("waiting");
    this._attempts += 1;
    this._timer = setTimeout(() => {
      get("session").then(
        () => this._open(),
        () => this.state === "over" || this._broken((this._source = { readyState: EventSource.CLOSED, close() {} })),
      );
    }, Math.min(LONGEST, 500 * 2 ** this._attempts));
  }

  _close(state) {
    clearTimeout(this._timer);
    this._source?.close();
    this._source = null;
    this._become(state);
  }

  _become(state) {
    if (this.state === "over" || this.state === state) return;
    this.state = state;
    this._changed();
  }

  _count() {
    const now = Date.now() / 1000;
    if (this.state === "live" && now - this._heard < DOZE) this._heard = now;
    if (this.rate !== this._facts) {
      this.rate = this._facts;
      this._changed();
    }
    this._facts = 0;
  }

  _changed() {
    this.dispatchEvent(new Event("change"));
  }
}

export const feed = new Feed();
