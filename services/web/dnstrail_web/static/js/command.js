// The command of the terminal that gives what a view shows.

import { visible } from "./format.js";
import { html, useState } from "./html.js";

/** Return an argument as a shell takes it. */
export function quoted(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${String(text).replaceAll("'", "'\\''")}'`;
}

/** Return a command line; options are [name, value] pairs, and those without a value are left out. */
export function commandLine(words, options = []) {
  const given = options.filter(([, value]) => value !== undefined && value !== null && value !== "" && value !== false);
  return [...words.map(quoted), ...given.map(([name, value]) => (value === true ? name : `${name} ${quoted(value)}`))].join(" ");
}

/** The line below a view: the command, and a button that copies what is shown. Nothing without a command. */
export function Command({ text }) {
  const [copied, set] = useState(false);
  if (!text) return null;
  const shown = visible(text);
  const copy = async () => {
    await navigator.clipboard.writeText(shown).catch(() => {});
    set(true);
    setTimeout(() => set(false), 1500);
  };
  return html`<footer class="command">
    <span class="quiet" aria-hidden="true">$</span>
    <code tabindex="0" aria-label="The same in a terminal"><b>${shown}</b></code>
    <button type="button" onClick=${copy}>${copied ? "Copied" : "Copy"}<span class="hidden"> the command</span></button>
  </footer>`;
}
