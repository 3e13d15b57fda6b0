// The facts of the feed, held as long as the page is open; at first with the newest of the history, and open connections.

import { get, lines, openConnections } from "../api.js";
import { feed } from "../feed.js";
import { poll } from "../pace.js";
import { Facts, MOST } from "./facts.js";

const FIRST = 1000; // of each kind, from the history
export const MOST_MISSED = MOST / 2; // of each kind, from the history after a gap
const MOST_OPEN = 2000; // connections whose rivals are read
const EVERY = 5000; // ms
const LATE = 3000; // ms after which the history has what happened before the feed began
const SEAM = 10; // seconds that are read once more then

/** `gap` is the last time without a feed: `from` and `until` in seconds, and `found`: "reading", "all", "newest" or "none". */
export const live = { facts: new Facts(MOST), gap: null, start };
let latest = 0; // time of the last fact in seconds, by the clock of the server
let filling = 0; // reads of the history that are not over

function start() {
  const { facts } = live;
  feed.on("questions", (entries) => (note(entries), facts.addQuestions(entries)));
  feed.on("connections", (entries) => (note(entries), facts.addConnections(entries)));
  feed.addEventListener("begin", () => fill(facts, { last: FIRST }));
  feed.addEventListener("gap", ({ detail }) => (detail.reason === "gap" ? fillGap(facts, detail) : filling || fill(facts, { last: FIRST })));
  fill(facts, { last: FIRST });
  poll(() => feed.state === "live" && open(facts), EVERY);
}

function note(entries) {
  for (const entry of entries) latest = Math.max(latest, Number(entry.timestamp) / 1e9);
}

async function fillGap(facts, { from, at }) {
  const gap = (live.gap = { from, until: at, found: "reading" });
  gap.found = await fill(facts, { since: latest ? latest - SEAM : undefined, last: MOST_MISSED });
  facts.changed();
}

/** Add facts of the history, and open connections. Returns whether these are "all" of the history, the "newest", or "none". */
async function fill(facts, time) {
  let found = "none";
  filling += 1;
  try {
    const session = (await get("session")).data;
    if (session.history) {
      found = (await read(facts, time)) ? "all" : "newest";
      setTimeout(() => read(facts, { ...time, since: session.now - SEAM }).catch(() => {}).then(() => (filling -= 1)), LATE);
    }
  } catch {
    // The feed states what is wrong, and goes on without the past.
  }
  if (found === "none") filling -= 1;
  await open(facts);
  return found;
}

/** Add the facts of the history. Returns whether it has less than `time.last` of each kind. */
async function read(facts, time) {
  const found = { questions: [], connections: [] };
  await lines("log", { ...time, domain: true }, (some) => found.questions.push(...some));
  await lines("log", { ...time, domain: true, connections: true }, (some) => found.connections.push(...some));
  facts.addQuestions(found.questions);
  facts.addConnections(found.connections);
  return Math.max(found.questions.length, found.connections.length) < time.last;
}

async function open(facts) {
  const found = await openConnections({ rivals: true }, MOST_OPEN).catch(() => []);
  facts.addOpen(found);
}
