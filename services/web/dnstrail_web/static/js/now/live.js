// The facts of the feed, held as long as the page is open; at first with the newest of the history, and open connections.

import { get, lines, openConnections } from "../api.js";
import { feed } from "../feed.js";
import { poll } from "../pace.js";
import { Facts, MOST } from "./facts.js";

const FIRST = 1000; // of each kind, from the history
const MOST_OPEN = 2000; // connections whose rivals are read
const EVERY = 5000; // ms

export const live = { facts: new Facts(MOST), start };

function start() {
  const { facts } = live;
  feed.on("questions", (entries) => facts.addQuestions(entries));
  feed.on("connections", (entries) => facts.addConnections(entries));
  for (const event of ["begin", "gap"]) feed.addEventListener(event, () => fill(facts));
  fill(facts);
  poll(() => feed.state === "live" && open(facts), EVERY);
}

async function fill(facts) {
  try {
    const session = (await get("session")).data;
    if (session.history) {
      const found = { questions: [], connections: [] };
      await lines("log", { last: FIRST, domain: true }, (some) => found.questions.push(...some));
      await lines("log", { last: FIRST, domain: true, connections: true }, (some) => found.connections.push(...some));
      facts.addQuestions(found.questions);
      facts.addConnections(found.connections);
    }
  } catch {
    // The feed states what is wrong, and goes on without the past.
  }
  await open(facts);
}

async function open(facts) {
  const found = await openConnections({ rivals: true }, MOST_OPEN).catch(() => []);
  facts.addOpen(found);
}
