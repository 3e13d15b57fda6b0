// The facts of a past time, from the history.

import { lines } from "../api.js";
import { useEffect, useMemo } from "../html.js";
import { moment } from "../times.js";
import { Facts, MOST_PAST } from "./facts.js";
import { asParameters } from "./filter.js";

/** Return the facts of a time that fit the filter; they come in little by little. */
export function usePast(since, until, options) {
  const facts = useMemo(() => Object.assign(new Facts(2 * MOST_PAST + 2), { loading: Boolean(since) }), [since, until, options]);
  useEffect(() => {
    if (!since) return undefined;
    const abort = new AbortController();
    read(facts, since, until, options, abort.signal);
    return () => abort.abort();
  }, [facts]);
  return facts;
}

async function read(facts, since, until, options, signal) {
  const time = { since: moment(since), until: moment(until), last: MOST_PAST + 1, domain: true };
  const { outcome, slower, ...both } = asParameters(options);
  const load = async (kind, params, add) => {
    let found = 0;
    await lines("log", { ...time, ...both, ...params }, (some) => (add(some), (found += some.length)), signal);
    if (found > MOST_PAST) facts.cut.push(kind);
  };
  try {
    await load("questions", { outcome, slower }, (some) => facts.addQuestions(some));
    if (!outcome && !slower) await load("connections", { connections: true }, (some) => facts.addConnections(some));
  } catch (error) {
    if (error.name !== "AbortError") facts.failure = error;
  }
  facts.loading = false;
  facts.dispatchEvent(new Event("change"));
}
