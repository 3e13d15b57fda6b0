// The page: its frame, and the view that the address names.

import { followLinks, href, useAddress, VIEWS } from "./address.js";
import { get, onSessionEnd } from "./api.js";
import { feed } from "./feed.js";
import { findings } from "./findings/state.js";
import { Findings } from "./findings/view.js";
import { count } from "./format.js";
import { Health } from "./health/view.js";
import { Hosts } from "./hosts.js";
import { html, render, useEffect, useRef, useState } from "./html.js";
import { New } from "./new.js";
import { live } from "./now/live.js";
import { Now } from "./now/view.js";
import { useChanges } from "./pace.js";
import { Trail } from "./trail/view.js";

const TITLES = { now: "Now", trail: "Trail", new: "New", findings: "Findings", health: "Health", hosts: "Hosts" };
const VIEW = { now: Now, trail: Trail, new: New, findings: Findings, health: Health, hosts: Hosts };
const STATES = { connecting: "connecting", live: "live", waiting: "no connection, trying again", asleep: "asleep", over: "signed out" };

function Page() {
  const { view, params } = useAddress();
  const [session, setSession] = useState(null);
  const [isOver, setOver] = useState(false);
  const main = useRef(null);
  const first = useRef(true);
  useEffect(() => {
    const end = onSessionEnd(() => {
      setOver(true);
      feed.stop();
    });
    get("session").then((reply) => setSession(reply.data), () => {});
    return end;
  }, []);
  useEffect(() => {
    document.title = `${params.key ? `${params.key} – ` : ""}${TITLES[view]} – dnstrail`;
    if (!first.current) main.current.focus({ preventScroll: true });
    first.current = false;
  }, [view, params.key]);
  const shown = VIEW[view];
  const views = VIEWS.filter((one) => one !== "hosts" || session?.fleet);
  return html`
    <a class="skip" href="#main">Skip to the content</a>
    <header class="top">
      <span class="mark">dnstrail</span>
      <nav aria-label="Views">${views.map((one) => html`<a key=${one} href=${href(one)} aria-current=${one === view ? "page" : undefined}>${TITLES[one]}${one === "findings" && html`<${Fresh} />`}</a>`)}</nav>
      <${State} session=${session} />
    </header>
    <main id="main" tabindex="-1" ref=${main}>
      ${isOver ? html`<${Over} />` : html`<${shown} params=${params} session=${session} key=${view} />`}
    </main>`;
}

function Fresh() {
  useChanges(findings, 2);
  return findings.fresh > 0 && html`<span class="badge">${findings.fresh > 99 ? "99+" : findings.fresh}<span class="hidden"> new</span></span>`;
}

/** Whether the page hears the server, how much, and what it missed. */
function State({ session }) {
  useChanges(feed, 2);
  const rate = feed.state === "live" ? `${count(feed.rate)} facts/s` : STATES[feed.state];
  return html`<div class="state"><span class=${`dot ${feed.state}`}></span><span class="hidden" role="status">${STATES[feed.state]}</span><span aria-hidden=${feed.state !== "live"}>${rate}</span>
    ${feed.missed > 0 && html`<span class="warn">${count(feed.missed)} missed</span>`}
    ${session?.host && html`<span class="host">${session.host}</span>`}</div>`;
}

function Over() {
  return html`<div class="empty" role="alert"><h2>The session is over</h2>
    <p>Run <code>dnstrail open</code> in a terminal of this host, and follow the link that it prints.</p></div>`;
}

const root = document.getElementById("app");
root.replaceChildren();
followLinks(root);
render(html`<${Page} />`, root);
feed.start();
live.start();
findings.start();
