// The findings of the worker's run, and those that the feed adds; how many of them were not looked at.

import { get, write } from "../api.js";
import { feed } from "../feed.js";

const MOST = 1000;

class Findings extends EventTarget {
  constructor() {
    super();
    this.list = []; // the newest first
    this.mutes = [];
    this.fresh = 0; // since the view was open last
    this.failure = null;
    this.isOpen = false;
    this._ids = new Set();
  }

  start() {
    feed.on("findings", (found) => this._take(found, true));
    for (const event of ["begin", "gap"]) feed.addEventListener(event, () => this.read());
    this.read();
  }

  async read() {
    try {
      this._take((await get("findings", { last: MOST })).data, false);
      this.mutes = (await get("mutes")).data;
      this.failure = null;
    } catch (error) {
      this.failure = error;
    }
    this._changed();
  }

  async mute(body) {
    await write("POST", "mutes", body);
    await this.read();
  }

  async unmute(id) {
    await write("DELETE", `mutes/${encodeURIComponent(id)}`);
    await this.read();
  }

  looked(isOpen) {
    this.isOpen = isOpen;
    this.fresh = 0;
    this._changed();
  }

  /** Return the mute that fits a finding, as the signature workers decide it. */
  muteOf(finding) {
    const now = Date.now() / 1000;
    return this.mutes.find(
      (mute) =>
        mute.until > now &&
        mute.event === finding.eventName &&
        (!mute.process || mute.process === finding.processName) &&
        (!mute.unit || mute.unit === finding.unit) &&
        (!mute.value || finding.args.some((arg) => (!mute.argument || arg.name === mute.argument) && isSimple(arg.value) && String(arg.value) === mute.value)),
    );
  }

  _take(found, isNew) {
    const more = found.filter((one) => !this._ids.has(idOf(one)));
    for (const one of more) this._ids.add(idOf(one));
    this.list = [...more.reverse(), ...this.list].sort((one, other) => (one.timestamp < other.timestamp ? 1 : -1)).slice(0, MOST);
    if (isNew && !this.isOpen) this.fresh += more.length;
    this._changed();
  }

  _changed() {
    this.dispatchEvent(new Event("change"));
  }
}

/** Return whether a mute can name a value: a text, or a number as text. */
export function isSimple(value) {
  return typeof value === "string" || typeof value === "number";
}

/** Return the identity of a finding. */
export function idOf(finding) {
  return finding.findingId || `${finding.timestamp} ${finding.eventName} ${finding.processId}`;
}

export const findings = new Findings();
