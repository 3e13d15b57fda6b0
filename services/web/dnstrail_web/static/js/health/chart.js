// Bars of outcomes over time. A bucket in which events were lost is hatched, whatever its bars state.

import { clock, count, day, duration } from "../format.js";
import { html } from "../html.js";

export const PARTS = [
  ["answered", "Answered"],
  ["no_data", "No data"],
  ["nxdomain", "NXDOMAIN"],
  ["failed", "Failed, refused"],
  ["unanswered", "Unanswered"],
];
const OTHERS = { refused: "failed", truncated: "failed", unknown: "unanswered" };

/** Return the outcomes of a bucket by the parts of the chart. */
export function parted(outcomes) {
  const parts = { answered: 0, no_data: 0, nxdomain: 0, failed: 0, unanswered: 0 };
  for (const [outcome, number] of Object.entries(outcomes)) parts[OTHERS[outcome] || outcome] += number;
  return parts;
}

/** Columns: [{start, parts, median, p95, lost, known}], without a hole between them. `lost` null: nobody counted. */
export function Chart({ columns, seconds, height = 150, label }) {
  const width = 1000;
  const step = width / Math.max(1, columns.length);
  const most = Math.max(1, ...columns.map(total));
  const losses = columns.reduce((sum, one) => sum + (one.lost || 0), 0);
  const bar = (one, place) => {
    let top = height;
    return PARTS.map(([id]) => {
      const size = (one.parts[id] / most) * height;
      top -= size;
      return size > 0 && html`<rect key=${id} class=${`part ${id}`} x=${(place * step).toFixed(2)} y=${top.toFixed(2)} width=${Math.max(0.5, step - Math.min(1, step / 5)).toFixed(2)} height=${size.toFixed(2)} />`;
    });
  };
  return html`<figure class="chart">
    <figcaption class="hidden">${label}: ${count(columns.reduce((sum, one) => sum + total(one), 0))} questions, ${count(losses)} events lost.</figcaption>
    <div class="plot">
      <span class="most" aria-hidden="true">${count(most)} / ${seconds < 120 ? "min" : duration(seconds)}</span>
      <svg viewBox=${`0 0 ${width} ${height}`} preserveAspectRatio="none" height=${height} role="img" aria-label=${label}>
        <defs><pattern id="loss" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="6" height="6" class="loss-ground" /><line x1="0" y1="0" x2="0" y2="6" class="loss-line" /></pattern></defs>
        ${columns.map((one, place) => html`<g key=${one.start}><title>${tip(one)}</title>
          <rect class=${one.lost ? "lost" : one.lost === null ? "uncounted" : "quiet-column"} x=${(place * step).toFixed(2)} y="0" width=${step.toFixed(2)} height=${height} />
          ${bar(one, place)}
          ${one.lost > 0 && html`<rect class="lost-edge" x=${(place * step).toFixed(2)} y="0" width=${step.toFixed(2)} height="4" />`}</g>`)}
      </svg>
      <div class="axis" aria-hidden="true">${ticks(columns).map((one) => html`<span key=${one}>${isLong(columns) ? `${day(one).slice(5)} ` : ""}${clock(one).slice(-8, -3)}</span>`)}</div>
    </div></figure>`;
}

export function total(one) {
  return PARTS.reduce((sum, [id]) => sum + one.parts[id], 0);
}

function tip(one) {
  const parts = PARTS.filter(([id]) => one.parts[id]).map(([id, name]) => `${name} ${count(one.parts[id])}`);
  const wait = one.p95 === null || one.p95 === undefined ? "" : `\nmedian ${duration(one.median)}, p95 ${duration(one.p95)}`;
  const lost = one.lost === null ? "\nlosses not counted" : one.lost ? `\n${count(one.lost)} events lost: the bars state too little` : "";
  return `${clock(one.start)}\n${parts.join(", ") || "no questions"}${wait}${lost}`;
}

function isLong(columns) {
  return columns.at(-1).start - columns[0].start > 86_400;
}

function ticks(columns) {
  if (!columns.length) return [];
  const places = [0, 0.25, 0.5, 0.75, 1].map((share) => Math.round(share * (columns.length - 1)));
  return [...new Set(places)].map((place) => columns[place].start);
}

/** A line of p95 latencies; buckets without answers leave a hole. */
export function Latency({ columns, height = 60, label }) {
  const width = 1000;
  const step = width / Math.max(1, columns.length);
  const most = Math.max(0.001, ...columns.map((one) => one.p95 || 0));
  const line = (field) => {
    let pen = "M";
    return columns.map((one, place) => {
      if (one[field] === null || one[field] === undefined) {
        pen = "M";
        return "";
      }
      const x = (place + 0.5) * step;
      const point = `${pen}${x.toFixed(1)} ${(height - (one[field] / most) * (height - 2)).toFixed(1)}${pen === "M" ? `h${(step / 2).toFixed(1)}` : ""}`;
      pen = "L";
      return point;
    }).join("");
  };
  return html`<figure class="chart"><figcaption class="hidden">${label}, at most ${duration(most)}</figcaption>
    <div class="plot"><span class="most" aria-hidden="true">${duration(most)}</span>
      <svg viewBox=${`0 0 ${width} ${height}`} preserveAspectRatio="none" height=${height} role="img" aria-label=${label}>
        ${columns.map((one, place) => one.lost > 0 && html`<rect key=${one.start} class="lost" x=${(place * step).toFixed(2)} y="0" width=${step.toFixed(2)} height=${height} />`)}
        <path class="p95" d=${line("p95")} /><path class="median" d=${line("median")} /></svg></div></figure>`;
}
