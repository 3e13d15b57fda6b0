// The buckets of the server as columns of the chart, and as rows of the table.

import { parted, PARTS, total } from "./chart.js";

const MOST = 180; // columns
export const EXPORTED = ["start", "by", "key", "questions", ...PARTS.map(([id]) => id), "median", "p95", "slowest", "lost"];

/** Return the columns of a chart, without a hole: the sums of `key`, or of all. */
export function columnsOf(data, by, key, since) {
  const { seconds, buckets, now } = data;
  const held = new Map();
  const width = seconds * Math.max(1, Math.ceil((now - since) / seconds / MOST));
  const first = Math.floor(since / width) * width;
  for (let start = first; start <= now; start += width) held.set(start, { start, parts: parted({}), median: null, p95: null, lost: 0, counts: 0 });
  for (const bucket of buckets) {
    const column = held.get(Math.floor(bucket.start / width) * width);
    if (!column) continue;
    column.lost = bucket.lost === null ? column.lost || null : (column.lost || 0) + bucket.lost;
    for (const [name, one] of Object.entries(bucket[by] || {})) if (!key || name === key) join(column, one);
  }
  return [...held.values()];
}

/** Add the figures of one key. Medians are joined by their weights, which is an estimate; of p95 the highest counts. */
function join(into, one) {
  const parts = parted(one.outcomes);
  for (const [id] of PARTS) into.parts[id] += parts[id];
  if (one.median === null) return;
  const weight = parts.answered || 1;
  into.median = ((into.median || 0) * into.counts + one.median * weight) / (into.counts + weight);
  into.counts += weight;
  into.p95 = Math.max(into.p95 || 0, one.p95);
  if (one.slowest !== null) into.slowest = Math.max(into.slowest || 0, one.slowest);
}

/** Return one row for each resolver or process. */
export function rowsOf(data, by, sort) {
  const rows = new Map();
  for (const bucket of data.buckets) {
    for (const [key, one] of Object.entries(bucket[by] || {})) {
      if (!rows.has(key)) rows.set(key, { key, parts: parted({}), median: null, p95: null, slowest: null, counts: 0 });
      join(rows.get(key), one);
    }
  }
  const value = (row) => (sort.by === "total" ? total(row) : sort.by in row.parts ? row.parts[sort.by] / Math.max(1, total(row)) : row[sort.by] ?? -1);
  const turn = sort.down ? -1 : 1;
  return [...rows.values()].sort((one, other) => {
    const [a, b] = [value(one), value(other)];
    return a < b ? -turn : a > b ? turn : one.key < other.key ? -1 : 1;
  });
}

/** Return one row for each bucket and resolver or process: of `key`, or of all. Its counts add up to those of the table. */
export function bucketRows(data, by, key) {
  return (data?.buckets || []).flatMap(({ start, lost, [by]: found }) =>
    Object.entries(found || {}).filter(([name]) => !key || name === key).map(([name, { outcomes, median, p95, slowest }]) => {
      const parts = parted(outcomes);
      return { start, by, key: name, questions: total({ parts }), ...parts, median, p95, slowest, lost };
    }),
  );
}
