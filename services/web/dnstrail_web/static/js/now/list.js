// Facts one by one, the newest first: as `dnstrail log` prints them.

export class List {
  constructor() {
    this._facts = []; // the oldest first
    this._head = 0; // the places before it are empty
    this._sorted = true; // facts of the history may arrive after later ones of the feed
  }

  get size() {
    return this._facts.length - this._head;
  }

  add(fact) {
    if (this.size && fact.time < this._facts.at(-1).time) this._sorted = false;
    this._facts.push(fact);
  }

  remove(fact) {
    if (this._facts[this._head] !== fact) {
      this._facts.splice(this._facts.indexOf(fact, this._head), 1);
      return;
    }
    this._head += 1;
    if (this._head > 10_000) {
      this._facts = this._facts.slice(this._head);
      this._head = 0;
    }
  }

  rows() {
    if (!this._sorted) {
      this._facts = this._facts.slice(this._head).sort((one, other) => one.time - other.time);
      this._head = 0;
      this._sorted = true;
    }
    return this._facts.slice(this._head).reverse();
  }
}
