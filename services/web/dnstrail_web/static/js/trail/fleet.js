// The hosts of the fleet that know the key of a trail: since when, and who asked. The store states it.

import { href } from "../address.js";
import { get } from "../api.js";
import { commandLine } from "../command.js";
import { clock, count, visible } from "../format.js";
import { html, useEffect, useState } from "../html.js";
import { poll } from "../pace.js";
import { isAddress } from "./graph.js";

const EVERY = 10_000; // ms
const MOST = 3; // askers, names and addresses of one host that are shown

/** Return {reply} or {error} of the store, at a time or now; null without a fleet, and before its first reply. */
export function useFleet(key, at, session) {
  const [state, set] = useState(null);
  const isAsked = Boolean(key && session?.fleet);
  useEffect(() => {
    set(null);
    if (!isAsked) return undefined;
    const read = (signal) =>
      get("fleet/get", { key, ...(at === null ? {} : { at: at.toFixed(6) }) }, signal).then(
        (reply) => set((now) => (JSON.stringify(now?.reply) === JSON.stringify(reply) ? now : { reply })),
        (error) => error.name === "AbortError" || set({ error }),
      );
    return poll(read, EVERY);
  }, [key, at, isAsked]);
  return state;
}

/** Return the hosts of a reply other than this one, each with the names by which it knows the key. */
export function namesByHost(fleet, own) {
  return (fleet?.reply?.data.hosts || []).filter((one) => one.host !== own).map((one) => [one.host, one.dns_queries]);
}

export function FleetHosts({ name, at, fleet }) {
  if (!fleet) return null;
  return html`<section class="fleet" aria-label="Hosts of the fleet"><h2>Hosts of the fleet</h2>
    ${fleet.error ? html`<${Failure} error=${fleet.error} />` : html`<${Known} reply=${fleet.reply} />`}
    <p class="quiet">In a terminal: <code>${visible(commandLine(["dnstrail", "fleet", "get", name], [["--at", at]]))}</code></p></section>`;
}

function Failure({ error }) {
  if (error.error !== "data_not_found") return html`<p class="warn" role="status">${visible(error.message)}</p>`;
  return html`<p role="status">No host knows it.${error.reply.complete === false ? " Some hosts are behind: see Hosts." : ""}</p>`;
}

function Known({ reply }) {
  const { data } = reply;
  const isPrivate = isAddress(data.key) && data.hosts.length > 1 && !data.ip_addresses.includes(data.key);
  const notes = [
    isPrivate && "A private address: another machine in each network.",
    data.split_horizon && "Split horizon: hosts have other private addresses.",
    data.behind.length && `Behind, and may know more: ${data.behind.map(visible).join(", ")}.`,
    reply.history === false && "This may differ from what was live then: ask the host itself.",
    data.truncated && "There is more: only the newest is shown.",
  ].filter(Boolean);
  return html`${notes.map((note) => html`<p class="warn" key=${note}>${note}</p>`)}
    <ul class="plain-list">${data.hosts.map((one) => html`<li key=${one.host}>
      <a class="mono" href=${href("hosts", { host: one.host })}>${visible(one.host)}</a> since ${clock(one.first)}, last ${clock(one.last)}${one.last_connection > 0 && `, last connection ${clock(one.last_connection)}`}<span class="quiet"> · ${count(one.answers)}×</span>${one.doubted > 0 && html` <span class="tag warn">doubted</span>`}
      <div class="mono">${some(one.dns_queries)} → ${some(one.ip_addresses)}</div>
      <div class="quiet">asked by ${some(one.askers.map(askerText))}</div></li>`)}</ul>`;
}

function askerText({ program, container }) {
  return `${program || "an unknown program"}${container && ` in ${container}`}`;
}

function some(texts) {
  const more = texts.length - MOST;
  return `${texts.slice(0, MOST).map(visible).join(", ")}${more > 0 ? ` and ${count(more)} more` : ""}`;
}
