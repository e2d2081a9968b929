// The results that a list shows: loaded page by page, kept up to date, the newest first.

import { results } from "./api.js";

const PAGE = 500;

export class Results {
  #query = {};
  #ids = new Map();
  #loading = null;
  #asked = 0;

  rows = [];
  total = 0;
  seq = 0;

  /** Begin anew with what `query` names. */
  async load(query) {
    this.#query = query;
    const asked = ++this.#asked;
    const answer = await results({ ...query, limit: PAGE });
    if (asked !== this.#asked) return; // another filter was chosen meanwhile
    this.rows = answer.rows;
    this.#ids = new Map(answer.rows.map((row) => [row.id, row]));
    this.total = answer.total;
    this.seq = answer.seq;
  }

  /** Have the rows up to `index` loaded; whether there are more of them now. */
  async reach(index) {
    if (this.#loading || index < this.rows.length - 50 || this.rows.length >= this.total) return false;
    const asked = this.#asked;
    const last = this.rows[this.rows.length - 1];
    this.#loading = results({ ...this.#query, limit: PAGE, beforeAt: last.at, beforeId: last.id });
    try {
      const { rows } = await this.#loading;
      if (asked !== this.#asked) return false;
      const fresh = rows.filter((row) => !this.#ids.has(row.id));
      for (const row of fresh) this.#ids.set(row.id, row);
      this.rows.push(...fresh);
      if (!rows.length) this.total = this.rows.length;
      return fresh.length > 0;
    } finally {
      this.#loading = null;
    }
  }

  /** Take what changed since; how many rows came on top. A row that was judged stays where it is, with what was said. */
  async update() {
    const asked = this.#asked;
    const { rows, seq } = await results({ ...this.#query, since: this.seq, limit: PAGE });
    if (asked !== this.#asked) return 0;
    const fresh = [];
    for (const row of rows) {
      const known = this.#ids.get(row.id);
      if (known) Object.assign(known, row);
      else if (this.#belongs(row)) fresh.push(row);
    }
    fresh.sort((one, other) => other.at - one.at);
    for (const row of fresh) this.#ids.set(row.id, row);
    this.rows.unshift(...fresh);
    this.total += fresh.length;
    this.seq = rows.length < PAGE ? seq : rows[rows.length - 1].seq;
    return fresh.length;
  }

  get(id) {
    return this.#ids.get(id);
  }

  #belongs(row) {
    const judged = row.verdict !== null;
    return this.#query.review === "any" || judged === (this.#query.review === "done");
  }
}
