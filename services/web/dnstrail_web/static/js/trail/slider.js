// The slider through time: to the right end is now, which stays live.

import { clock, utc } from "../format.js";
import { html, useRef, useState } from "../html.js";
import { localInput } from "../times.js";

const WINDOWS = { 300: "5 min", 3600: "1 h", 21600: "6 h", 86400: "1 d", 604800: "7 d", 2592000: "30 d" };
const STEPS = 1000;

export function Slider({ at, onChange }) {
  const now = Date.now() / 1000;
  const [window, setWindow] = useState(() => Object.keys(WINDOWS).find((length) => at === null || now - at < length) || "2592000");
  const [moved, setMoved] = useState(null);
  const timer = useRef(0);
  const length = Number(window);
  const shown = moved ?? at;
  const value = shown === null ? STEPS : Math.max(0, Math.round(STEPS * (1 - (now - shown) / length))) || 0;
  const set = (time) => {
    setMoved(time);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => (setMoved(null), onChange(time)), 120);
  };
  const slide = (event) => {
    const step = Number(event.target.value);
    if (step === STEPS) {
      clearTimeout(timer.current);
      setMoved(null);
      onChange(null);
    } else set(now - length * (1 - step / STEPS));
  };
  const text = shown === null ? "now, live" : Number.isNaN(shown) ? "no time" : clock(shown, length < 3600);
  return html`<div class="bar slider">
    <label class="field">Back <select value=${window} onChange=${(event) => setWindow(event.target.value)}>
      ${Object.entries(WINDOWS).map(([seconds, name]) => html`<option value=${seconds} key=${seconds}>${name}</option>`)}</select></label>
    <input type="range" class="wide" min="0" max=${STEPS} value=${value} aria-label="Time" aria-valuetext=${text} onInput=${slide} />
    <span class="at" title=${shown ? utc(shown) : ""}>${text}</span>
    <label class="field"><span class="hidden">Time exactly</span><input type="datetime-local" step="1" value=${localInput(shown)} onChange=${(event) => event.target.value && onChange(new Date(event.target.value) / 1000)} /></label>
    <button type="button" disabled=${at === null} onClick=${() => onChange(null)}>Now</button>
  </div>`;
}
