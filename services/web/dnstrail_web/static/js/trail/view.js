// Trail: how a name or an address was reached, now or at a past time, with the rivals.

import { address, change, go, href } from "../address.js";
import { Command, commandLine } from "../command.js";
import { saveCsv, saveJson } from "../export.js";
import { clock, count, visible } from "../format.js";
import { html, useEffect, useMemo, useState } from "../html.js";
import { useSeconds } from "../pace.js";
import { moment, NoTime, wrongTime } from "../times.js";
import { Drawing } from "./drawing.js";
import { FleetHosts, namesByHost, useFleet } from "./fleet.js";
import { Lives, Paths } from "./paths.js";
import { Slider } from "./slider.js";
import { useTrail } from "./state.js";

const CONNECTION = ["process", "container", "client", "port", "source_port", "host"];

export function Trail({ params, session }) {
  const key = (params.key || "").trim();
  const at = useMemo(() => moment(params.at), [params.at]); // a length before now is read once
  const connection = Object.fromEntries(CONNECTION.filter((name) => params[name]).map((name) => [name, params[name]]));
  const wrong = wrongTime(params.at);
  const found = useTrail(wrong ? "" : key, at, connection);
  const fleet = useFleet(wrong ? "" : key, at, session);
  const hosts = useMemo(() => namesByHost(fleet, session?.host), [fleet, session?.host]);
  const [path, setPath] = useState(null);
  const now = useSeconds();
  const elapsed = at === null && found.at ? Math.max(0, now - found.at) : 0;
  const paths = useMemo(() => html`<${Paths} trails=${found.trails || []} at=${params.at} path=${path} onPath=${setPath} />`, [found.trails, params.at, path]);
  const names = useMemo(() => html`<${Names} names=${found.names || []} at=${params.at} />`, [found.names, params.at]);
  return html`
    <h1 class="hidden">Trail of ${key || "a name or an address"}</h1>
    <${KeyBar} value=${key} connection=${connection} found=${found} />
    ${wrong && html`<${NoTime} text=${wrong} />`}
    ${key && html`<${Slider} at=${at} onChange=${(time) => change({ at: time === null ? "" : time.toFixed(3) }, { replace: true })} />`}
    ${found.notice && html`<div class=${`notice ${found.notice.error ? "error" : ""}`} role="alert">${found.notice.text}</div>`}
    <div class="scroll trail" aria-busy=${found.loading}>
      ${!key && html`<div class="empty"><p>Enter a name or an address: which query did it come from, who asked, and which other names claim it?</p><p>Rows of Now and findings link here, too.</p></div>`}
      ${found.trails && html`
        <${Summary} found=${found} />
        <${Drawing} name=${found.key} trails=${found.trails} names=${found.names} hosts=${hosts} at=${params.at} path=${path} onPath=${setPath} elapsed=${elapsed} />
        <div class="two">
          <section><h2>Paths, the likeliest first</h2>${paths}
            ${found.more > 0 && html`<p class="quiet">${count(found.more)} more names lead here. The reply holds the likeliest ${count(found.trails.length)} paths.</p>`}</section>
          <section><h2>Lives</h2><${Lives} trails=${found.trails} at=${found.at} elapsed=${elapsed} />
            ${names}</section>
        </div>`}
      <${FleetHosts} name=${key} at=${params.at} fleet=${fleet} />
    </div>
    <${Command} text=${wrong ? "" : command(key, params.at, connection)} />`;
}

function KeyBar({ value, connection, found }) {
  const [typed, set] = useState(value);
  useEffect(() => set(value), [value]);
  const submit = (event) => {
    event.preventDefault();
    go(href("trail", { key: typed.trim(), at: address().params.at }));
  };
  const scope = Object.entries(connection).map(([name, one]) => `${name} ${one}`).join(", ");
  const rows = () => found.trails.map((trail, place) => ({ rank: place + 1, ...trail }));
  const columns = ["rank", "dns_root", "state", "rival", "scope", "doubted", "first_seen", "last_seen", "path", "reasons", "askers"];
  const flat = () => rows().map((row) => ({ ...row, path: row.steps.map((step) => `${step.kind} ${step.target}`), reasons: row.reasons.join("; "), askers: row.asked.map((asked) => asked.process_name || asked.client) }));
  return html`<form class="bar" onSubmit=${submit} role="search">
    <label class="field wide">Name or address <input class="mono" id="key" value=${typed} spellcheck="false" autocomplete="off" autocapitalize="none" onInput=${(event) => set(event.target.value)} /></label>
    <button type="submit" class="main">Show</button>
    ${scope && html`<span class="field">for ${visible(scope)} <a href=${href("trail", { key: value, at: address().params.at })}>all</a></span>`}
    ${found.trails && html`<div class="end"><button type="button" onClick=${() => saveCsv("dnstrail-trail", columns, flat())}>CSV</button>
      <button type="button" onClick=${() => saveJson("dnstrail-trail", [found.reply])}>JSON</button></div>`}
  </form>`;
}

function Summary({ found }) {
  const { get, trails } = found;
  const source = found.source === "history" ? "from the history" : "from the image";
  return html`<p class="summary" role="status">
    <b class="mono">${visible(found.key)}</b>${get ? html`: question <b class="mono">${visible(get.dns_root || "none")}</b>, ${count(get.ip_addresses.length)} ${get.ip_addresses.length === 1 ? "address" : "addresses"}, ${count(get.dns_queries.length)} ${get.dns_queries.length === 1 ? "name" : "names"}` : ""}
    <span class="quiet"> · ${count(trails.length)} ${trails.length === 1 ? "path" : "paths"}${trails.length > 1 ? `, ${count(trails.length - 1)} of them rivals` : ""} · ${found.isPast ? `at ${clock(found.at, true)}, ${source}` : "now"}${found.truncated ? " · a bound left something out" : ""}</span></p>`;
}

/** All names of a hub: those that the graph folds can be found here. */
function Names({ names, at }) {
  const [wanted, set] = useState("");
  if (names.length < 25) return null;
  const fit = names.filter((name) => name.includes(wanted.toLowerCase()));
  return html`<h2 class="more">All ${count(names.length)} names</h2>
    <label class="field">Find <input type="search" value=${wanted} onInput=${(event) => set(event.target.value)} /></label>
    <ul class="plain-list mono">${fit.slice(0, 100).map((name, place) => html`<li key=${place}><a href=${href("trail", { key: name, at })}>${visible(name)}</a></li>`)}</ul>
    ${fit.length > 100 && html`<p class="quiet">and ${count(fit.length - 100)} more</p>`}`;
}

function command(key, at, connection) {
  const given = Object.entries(connection).map(([name, value]) => `${name}=${value}`).join(",");
  return commandLine(["dnstrail", "trail", key || "KEY"], [["--at", at], ["--connection", given]]);
}
