// Facts by group: each group holds the sums of its facts, kept up with each fact that comes or goes.

export const GROUPS = {
  process: ["process", "domain", "name", "address"],
  container: ["container", "process", "domain", "name", "address"],
  unit: ["unit", "process", "domain", "name", "address"],
  host: ["host", "process", "domain", "name", "address"],
  domain: ["domain", "name", "process", "address"],
  address: ["address", "name", "process"],
};
export const WITHOUT = {
  process: "(no process)",
  container: "(no container)",
  unit: "(no unit)",
  host: "(no host)",
  domain: "(no name)",
  name: "(no name)",
  address: "(no address)",
};

class Group {
  constructor(parent, field, value) {
    this.parent = parent;
    this.field = field;
    this.value = value;
    this.level = parent ? parent.level + 1 : -1;
    this.key = parent ? `${parent.key}\u0000${field}:${value}` : "";
    this.children = new Map();
    this.facts = 0;
    this.lookups = this.failed = this.answers = 0;
    this.connections = this.running = this.broken = 0;
    this.sent = this.received = 0;
    this.waited = this.timed = 0;
    this.last = 0;
    this.outcomes = {};
    this.program = ""; // the last one, of a process
    this.fact = null; // of the row of one connection
    this.order = null; // its children, sorted
    this.holed = false; // some of them are gone
    this.by = null;
    this.at = this.sortedAt = 0;
  }

  get label() {
    return this.value || WITHOUT[this.field];
  }

  /** The mean wait of answered questions, in seconds; null without one. */
  get wait() {
    return this.timed ? this.waited / this.timed / 1e9 : null;
  }
}

/** Groups of groups of facts, the last of which are single connections. */
export class Tree {
  constructor(fields) {
    this.fields = fields;
    this.root = new Group(null, "", "");
  }

  get size() {
    return this.root.facts;
  }

  add(fact) {
    const paths = fact.kind === "connection" || this.fields[0] !== "address" ? [[fact.address, true]] : each(fact.answers);
    fact.groups = [];
    for (const [address, counts] of paths) this._put(fact, address, counts);
    if (fact.kind === "question" && this.fields[0] !== "address") for (const address of fact.answers) this._put(fact, address, false);
  }

  remove(fact) {
    for (const [group, counts] of fact.groups) {
      count(group, fact, counts, -1);
      if (!group.facts && group.parent) {
        group.parent.children.delete(group.value);
        group.parent.holed = true;
      }
    }
    fact.groups = [];
  }

  /** Put a fact into the groups of one address. A question counts in those before the address, once. */
  _put(fact, address, counts) {
    let group = this.root;
    if (counts) this._count(group, fact, true);
    for (const field of this.fields) {
      const value = field === "address" ? address : fact[field];
      if (field === "address" && !value && group !== this.root) break;
      if (field === "name" && !value && this.fields.includes("domain")) continue; // the domain states it
      group = child(group, field, value);
      if (counts || field === "address") this._count(group, fact, counts);
    }
    if (fact.kind === "connection") {
      group = child(group, "connection", fact.key);
      group.fact = fact;
      this._count(group, fact, true);
    }
  }

  _count(group, fact, counts) {
    count(group, fact, counts, 1);
    fact.groups.push([group, counts]);
  }

  /** Return the visible rows. `isOpen(group)` states which groups are unfolded; `held` keeps the order of before. */
  rows(isOpen, sort, held) {
    const rows = [];
    const visit = (group) => {
      for (const one of sorted(group, sort, held)) {
        one.expandable = one.children.size > 0;
        one.open = one.expandable && isOpen(one);
        rows.push(one);
        if (one.open) visit(one);
      }
    };
    visit(this.root);
    return rows;
  }

  /** Return the groups without groups below them, single connections left out: for an export. */
  leaves() {
    const found = [];
    const visit = (group) => {
      const below = [...group.children.values()].filter((one) => one.field !== "connection");
      const own = group.lookups > below.reduce((sum, one) => sum + one.lookups, 0);
      if (group.parent && (!below.length || own)) found.push(group);
      below.forEach(visit);
    };
    visit(this.root);
    return found;
  }
}

function each(answers) {
  return answers.length ? [...new Set(answers)].map((address) => [address, true]) : [["", true]];
}

function child(group, field, value) {
  let found = group.children.get(value);
  if (!found) {
    found = new Group(group, field, value);
    group.children.set(value, found);
    group.order?.push(found);
  }
  return found;
}

function count(group, fact, counts, sign) {
  const { entry } = fact;
  group.facts += sign;
  if (sign > 0 && fact.time >= group.last) {
    group.last = fact.time;
    group.program = entry.executable || "";
  }
  if (!counts) {
    group.answers += sign;
  } else if (fact.kind === "question") {
    group.lookups += sign;
    if (fact.outcome !== "answered" && fact.outcome !== "no_data") {
      group.failed += sign;
      group.outcomes[fact.outcome] = (group.outcomes[fact.outcome] || 0) + sign;
    }
    if (entry.waited !== undefined && entry.rcode !== undefined) {
      group.waited += sign * entry.waited;
      group.timed += sign;
    }
  } else {
    group.connections += sign;
    group.running += fact.over ? 0 : sign;
    group.broken += fact.error ? sign : 0;
    group.sent += sign * (entry.bytes_sent || 0);
    group.received += sign * (entry.bytes_received || 0);
  }
}

const VALUES = {
  name: (group) => group.label,
  lookups: (group) => group.lookups || group.answers,
  failed: (group) => group.failed + group.broken,
  connections: (group) => group.connections,
  bytes: (group) => group.sent + group.received,
  wait: (group) => group.wait ?? -1,
  last: (group) => group.last,
};

const LARGE = 1000; // groups below one that are sorted anew every other second only

function sorted(group, sort, held) {
  const now = performance.now();
  const state = group.last + group.facts;
  const due = group.at !== state && !held && now - group.sortedAt > (group.children.size > LARGE ? 2000 : 400);
  if (!group.order || group.by !== sort || due) {
    const value = VALUES[sort.by] || VALUES.lookups;
    const turn = sort.down ? -1 : 1;
    const compare = (one, other) => {
      const [a, b] = [value(one), value(other)];
      return a < b ? -turn : a > b ? turn : one.label < other.label ? -1 : 1;
    };
    group.order = [...group.children.values()].sort(compare);
    group.by = sort;
    group.at = state;
    group.sortedAt = now;
  } else if (group.holed) {
    group.order = group.order.filter((one) => one.facts);
  }
  group.holed = false;
  return group.order;
}
