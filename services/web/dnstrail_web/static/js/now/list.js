// Facts one by one, the newest first: as `dnstrail log` prints them.

export class List {
  constructor() {
    this._facts = new Set(); // the oldest first
    this._last = -Infinity; // the latest time of a fact
    this._sorted = true; // facts of the history may arrive after later ones of the feed
  }

  get size() {
    return this._facts.size;
  }

  add(fact) {
    if (fact.time < this._last) this._sorted = false;
    else this._last = fact.time;
    this._facts.add(fact);
  }

  remove(fact) {
    this._facts.delete(fact);
  }

  rows() {
    const rows = [...this._facts];
    if (!this._sorted) {
      rows.sort((one, other) => one.time - other.time);
      this._facts = new Set(rows);
      this._sorted = true;
    }
    return rows.reverse();
  }
}
