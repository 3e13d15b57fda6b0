// The facts that a page holds: questions that have ended, and connections with their last stage. The newest stay.

export const MOST = 20_000; // facts of the live feed
export const MOST_PAST = 50_000; // of each kind, from the history

/** Facts in the order of arrival, at most `most`. A projection is told each fact that fits, and each that leaves. */
export class Facts extends EventTarget {
  constructor(most) {
    super();
    this.most = most;
    this.left = 0;
    this.loading = false;
    this.failure = null;
    this.hosts = new Set();
    this._held = new Map(); // key -> fact, the oldest first
    this._ids = 0;
    this._fits = () => true;
    this._projection = null;
  }

  get size() {
    return this._held.size;
  }

  /** The time of the oldest fact, in seconds; null without one. */
  get since() {
    for (const fact of this._held.values()) return fact.time;
    return null;
  }

  /** Show the facts that fit in a projection, from now on. */
  project(projection, fits) {
    this._projection = projection;
    this._fits = fits;
    for (const fact of this._held.values()) {
      fact.shown = fits(fact);
      if (fact.shown) projection.add(fact);
    }
    this._changed();
  }

  addQuestions(entries) {
    for (const entry of entries) {
      if (this._held.has(entry.id) || (entry.hop === "forwarder" && entry.for)) continue;
      this._add(entry.id, question(entry));
    }
    this._changed();
  }

  /** Take stages of connections: a later stage replaces the one before. */
  addConnections(entries) {
    for (const entry of entries) {
      const key = `${entry.host} ${entry.transport} ${entry.src} ${entry.src_port} ${entry.dst} ${entry.dst_port}`;
      const held = this._held.get(key);
      if (held && held.entry.id === entry.id) continue;
      if (held && !held.over && !(entry.stage === "opened" && held.entry.socket !== undefined)) this._replace(held, connection(key, entry, held));
      else {
        if (held) this._rename(held);
        this._add(key, connection(key, entry, null));
      }
    }
    this._changed();
  }

  /** Take the connections that the cache holds as open, with their rivals. */
  addOpen(found) {
    for (const one of found) {
      const key = `${one.host} ${one.transport} ${one.client} ${one.client_port} ${one.address} ${one.port}`;
      const held = this._held.get(key);
      if (held) held.rivals = one.rivals || [];
      else this._add(key, connection(key, opened(one), null, one.rivals || []));
    }
    this._changed();
  }

  _add(key, fact) {
    fact.order = this._ids += 1;
    this._held.set(key, fact);
    this.hosts.add(fact.host);
    fact.shown = this._fits(fact);
    if (fact.shown) this._projection?.add(fact);
    while (this._held.size > this.most) {
      const [oldest, gone] = this._held.entries().next().value;
      this._held.delete(oldest);
      this.left += 1;
      if (gone.shown) this._projection?.remove(gone);
    }
  }

  _replace(held, fact) {
    if (held.shown) this._projection?.remove(held);
    Object.assign(held, fact, { order: held.order });
    held.shown = this._fits(held);
    if (held.shown) this._projection?.add(held);
  }

  /** Keep a connection that is over under another key: its ports are used again. */
  _rename(held) {
    this._held.delete(held.key);
    held.key = `${held.key} ${held.order}`;
    this._held.set(held.key, held);
  }

  _changed() {
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
    container: entry.container_name || (entry.container_id || "").slice(0, 12),
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

function connection(key, entry, before, rivals = before?.rivals || []) {
  const name = entry.name || before?.name || "";
  return {
    kind: "connection",
    key,
    time: Number(entry.timestamp) / 1e9,
    process: entry.process_name || entry.src,
    container: entry.container_name || (entry.container_id || "").slice(0, 12),
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
    rivals,
    entry,
  };
}

/** Return an open connection of the cache in the form of its fact. */
function opened(one) {
  const { client, client_port: port, address, port: to, since, ...rest } = one;
  return { ...rest, timestamp: String(Math.round(since * 1e6)) + "000", stage: "opened", src: client, src_port: port, dst: address, dst_port: to };
}
