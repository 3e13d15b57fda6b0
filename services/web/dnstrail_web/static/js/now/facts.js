// The facts that a page holds: questions that have ended, and connections with their last stage. The newest stay.

import { containerText } from "../format.js";

export const MOST = 20_000; // facts of the live feed
export const MOST_PAST = 50_000; // of each kind, from the history

/** Facts in the order of arrival, at most `most`. A projection is told each fact that fits, and each that leaves. */
export class Facts extends EventTarget {
  constructor(most) {
    super();
    this.most = most;
    this.left = 0;
    this.cut = []; // kinds of facts of which there are more than were read
    this.loading = false;
    this.failure = null;
    this.hosts = new Set();
    this._held = new Map(); // key -> fact, the oldest first
    this._oldest = this._held.entries(); // goes on where it stopped: a new iterator passes each place of a fact that left
    this._connections = new Map(); // id of a connection -> its fact
    this._newest = new Map(); // ends of a connection -> the fact that was opened last
    this._ids = 0;
    this._fits = () => true;
    this._projection = null;
  }

  get size() {
    return this._held.size;
  }

  /** The time of the oldest fact, in seconds; null without one. The history's facts may arrive after those of the feed. */
  get since() {
    let oldest = Infinity;
    for (const { time } of this._held.values()) oldest = Math.min(oldest, time);
    return this._held.size ? oldest : null;
  }

  /** Show the facts that fit in a projection, from now on. */
  project(projection, fits) {
    this._projection = projection;
    this._fits = fits;
    for (const fact of this._held.values()) {
      fact.shown = fits(fact);
      if (fact.shown) projection.add(fact);
    }
    this.changed();
  }

  addQuestions(entries) {
    for (const entry of entries) {
      if (this._held.has(entry.id) || (entry.hop === "forwarder" && entry.for)) continue;
      this._add(entry.id, question(entry));
    }
    this.changed();
  }

  /** Take stages of connections, also those that are held already: a later stage replaces the one before. */
  addConnections(entries) {
    for (const entry of entries) {
      const id = connectionId(entry);
      const ends = endsOf(entry);
      let held = this._connections.get(id);
      if (!held) {
        const newest = this._newest.get(ends);
        if (newest && !newest.entry.id && isBegunAt(newest, begunOf(entry))) held = newest; // the cache stated it as open
      }
      if (held && !isLater(entry, held)) continue;
      if (held) this._replace(held, connection(held.key, entry, held));
      else held = this._add(id, connection(id, entry, null));
      this._connections.set(id, held);
      this._note(ends, held);
    }
    this.changed();
  }

  /** Take the connections that the cache holds as open, with their rivals. */
  addOpen(found) {
    for (const one of found) {
      const entry = opened(one);
      const ends = endsOf(entry);
      const held = this._newest.get(ends);
      if (held && isBegunAt(held, one.since)) held.rivals = one.rivals || [];
      else if (!held || held.begun < one.since) {
        const key = `${ends} ${one.since}`;
        this._note(ends, this._add(key, connection(key, entry, null, one.rivals || [])));
      }
    }
    this.changed();
  }

  _add(key, fact) {
    fact.order = this._ids += 1;
    this._held.set(key, fact);
    this.hosts.add(fact.host);
    fact.shown = this._fits(fact);
    if (fact.shown) this._projection?.add(fact);
    while (this._held.size > this.most) {
      const [oldest, gone] = this._oldest.next().value;
      this._held.delete(oldest);
      this._forget(gone);
      this.left += 1;
      if (gone.shown) this._projection?.remove(gone);
    }
    return fact;
  }

  _replace(held, fact) {
    if (held.shown) this._projection?.remove(held);
    Object.assign(held, fact, { order: held.order });
    held.shown = this._fits(held);
    if (held.shown) this._projection?.add(held);
  }

  _note(ends, fact) {
    const newest = this._newest.get(ends);
    if (!newest || newest.begun <= fact.begun) this._newest.set(ends, fact);
  }

  _forget(fact) {
    if (fact.kind !== "connection") return;
    const ends = endsOf(fact.entry);
    if (fact.entry.id) this._connections.delete(connectionId(fact.entry));
    if (this._newest.get(ends) === fact) this._newest.delete(ends);
  }

  changed() {
    this.dispatchEvent(new Event("change"));
  }
}

const ADDRESSES = new Set(["A", "AAAA"]);

function question(entry) {
  const relations = entry.relations || [];
  return {
    kind: "question",
    key: entry.id,
    time: Number(entry.timestamp) / 1e9,
    process: entry.process_name || entry.src,
    container: containerText(entry),
    unit: entry.unit || "",
    host: entry.host || "",
    domain: entry.domain || entry.name || ".",
    name: entry.name || ".",
    address: "",
    answers: relations.filter((relation) => ADDRESSES.has(relation[1])).map((relation) => relation[2]),
    outcome: entry.outcome,
    over: true,
    entry,
  };
}

/** Return the id that all stages of a connection share: the one of a stage, without the stage. */
function connectionId(entry) {
  return entry.id.slice(0, entry.id.lastIndexOf("/"));
}

function endsOf(entry) {
  return `${entry.host} ${entry.transport} ${entry.src} ${entry.src_port} ${entry.dst} ${entry.dst_port}`;
}

/** Return when the connection of a stage was opened, in seconds. */
function begunOf(entry) {
  return (Number(entry.timestamp) - (entry.lasted || 0)) / 1e9;
}

/** Return whether a connection was opened at a time. Two readings of one time differ a little: clocks are compared anew. */
function isBegunAt(fact, time) {
  return Math.abs(fact.begun - time) < 0.5;
}

const STAGES = { opened: 0, result: 1, named: 1, end: 2 };

/** Return whether a stage states more of its connection than the one that is held. */
function isLater(entry, { over, entry: held }) {
  if (!held.id) return true;
  if (over || held.id === entry.id) return false;
  const further = STAGES[entry.stage] - STAGES[held.stage];
  return further > 0 || (further === 0 && Number(entry.timestamp) >= Number(held.timestamp));
}

function connection(key, entry, before, rivals = before?.rivals || []) {
  const name = entry.name || before?.name || "";
  return {
    kind: "connection",
    key,
    time: Number(entry.timestamp) / 1e9,
    process: entry.process_name || entry.src,
    container: containerText(entry),
    unit: entry.unit || "",
    host: entry.host || "",
    domain: (entry.name ? entry.domain : before?.domain) || name || "",
    name,
    address: entry.dst,
    answers: [],
    outcome: "",
    bound: entry.bound || before?.bound || "",
    connected: entry.connected ?? before?.connected,
    error: entry.error || before?.error || "",
    over: entry.stage === "end" || Boolean(entry.error),
    begun: begunOf(entry),
    rivals,
    entry,
  };
}

/** Return an open connection of the cache in the form of its fact. */
function opened(one) {
  const { client, client_port: port, address, port: to, since, ...rest } = one;
  return { ...rest, timestamp: String(Math.round(since * 1e6)) + "000", stage: "opened", src: client, src_port: port, dst: address, dst_port: to };
}
