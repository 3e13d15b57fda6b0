// The paths to a key as a list, the likeliest first, each with its reasons.

import { href } from "../address.js";
import { clock, containerText, count, duration, visible } from "../format.js";
import { html } from "../html.js";

const ASKERS = 3; // shown for one path

export function Paths({ trails, at, path = null, onPath = () => {} }) {
  if (!trails.length) return html`<p class="quiet">No path is known.</p>`;
  return html`<ol class="paths">${trails.map((trail, place) => html`
    <li key=${place} data-rank=${place + 1} class=${path === place ? "on" : ""} onPointerEnter=${() => onPath(place)} onPointerLeave=${() => onPath(null)}>
      <div class="line">
        <a class="mono" href=${href("trail", { key: trail.dns_root, at })} onFocus=${() => onPath(place)} onBlur=${() => onPath(null)}>${visible(trail.dns_root)}</a>
        <span class=${`tag ${trail.rival ? "" : "good"}`}>${trail.rival ? "rival" : "likeliest"}</span>
        ${trail.state !== "live" && html`<span class="tag warn">${trail.state}</span>`}
        ${trail.doubted && html`<span class="tag warn">doubted</span>`}
      </div>
      ${trail.steps.length > 0 && html`<div class="mono chain">${trail.steps.map((step) => html`<span key=${`${step.kind} ${step.target}`}><span class="quiet"> ${step.kind || "…"} → </span>${visible(step.target)}</span>`)}</div>`}
      <ul class="reasons">${trail.reasons.map((reason) => html`<li key=${reason}>${visible(reason)}</li>`)}</ul>
      <${Askers} trail=${trail} />
    </li>`)}</ol>`;
}

function Askers({ trail }) {
  const shown = trail.asked.slice(0, ASKERS);
  return html`<div class="quiet">${shown.map((asked, place) => html`<div key=${place}>asked by ${visible(asked.process_name ? `${asked.process_name} ${asked.process_id}` : asked.client)}${asked.container_id ? ` in ${visible(containerText(asked))}` : asked.unit ? ` in ${visible(asked.unit)}` : ""}, server ${asked.server}${asked.foreign ? html` <span class="tag warn">foreign server</span>` : ""}${asked.matched ? "" : ", no query seen"}${asked.count > 1 ? `, ${count(asked.count)} times` : ""}, last ${clock(asked.last_seen)}</div>`)}
    ${trail.asked.length > ASKERS && html`<div>and ${count(trail.asked.length - ASKERS)} more</div>`}</div>`;
}

/** Return a length (s) that shows most of these whole: few long ones do not make the others too small. */
function most(lengths) {
  const sorted = [...lengths].sort((one, other) => one - other);
  return Math.max(30, Math.min(sorted.at(-1), 1.5 * sorted[Math.floor(0.7 * (sorted.length - 1))]));
}

/** The lives of relations as bars on one axis of time. `at` is the time of the reply. */
export function Lives({ trails, at, elapsed }) {
  const steps = new Map();
  for (const trail of trails) for (const step of trail.steps) if (step.kind) steps.set(`${step.owner} ${step.kind} ${step.target}`, step);
  const all = [...steps.values()].slice(0, 60);
  if (!all.length) return null;
  const now = at + elapsed;
  const from = now - most(all.map((step) => step.age + elapsed));
  const to = now + most(all.map((step) => step.remaining - elapsed));
  const spanned = to - from;
  const place = (time) => `${Math.max(0, Math.min(100, (100 * (time - from)) / spanned)).toFixed(2)}%`;
  return html`<div class="lives" role="table" aria-label="Lives of the relations">
    <div class="life-row axis" role="row"><span role="columnheader">Relation</span><span role="columnheader" class="ends"><span>${clock(from).slice(-8)}</span><span>${clock(to).slice(-8)}</span></span><span role="columnheader">Ends</span></div>
    ${all.map((step, row) => {
      const left = step.remaining - elapsed;
      const state = left > 0 ? step.state : step.state === "live" ? "grace" : step.state;
      return html`<div class="life-row" role="row" key=${row}>
        <span role="cell" class="mono" title=${`${visible(step.owner)} ${step.kind} ${visible(step.target)}`}>${visible(step.owner)} <span class="quiet">${step.kind}</span> ${visible(step.target)}</span>
        <span role="cell" class="track"><span class=${`span ${state} ${at + step.remaining > to ? "after" : ""}`} style=${{ left: place(at - step.age), width: `calc(${place(at + step.remaining)} - ${place(at - step.age)})` }}></span><span class="cursor" style=${{ left: place(now) }}></span></span>
        <span role="cell">${left > 0 ? `in ${duration(left)}` : `${state}, ${duration(-left)} ago`}${step.count > 1 ? html`<span class="quiet"> · ${count(step.count)}×</span>` : ""}</span>
      </div>`;
    })}</div>`;
}
