// The trails of a key, read anew when a fact touches them.

import { get } from "../api.js";
import { feed } from "../feed.js";
import { useEffect, useState } from "../html.js";
import { drawn } from "../pace.js";
import { isAddress } from "./graph.js";

const MOST = 100; // paths of a key
const MOST_ALIASES = 8; // of a name, whose paths are read if its addresses have too many
const MOST_ADDRESSES = 12; // of a name, whose paths are read
const SHORTEST = 100; // ms between two readings: ten a second at most
const SHARE = 8; // a reading and its drawing take an eighth of the time at most

/** Return {trails, names, key, at, get, notice, ...} of a key, at a time or now. */
export function useTrail(key, at, connection) {
  const [state, set] = useState({ loading: Boolean(key) });
  const asked = JSON.stringify([key, at, connection]);
  useEffect(() => {
    if (!key) {
      set({ loading: false });
      return undefined;
    }
    const abort = new AbortController();
    let timer = 0;
    let busy = false;
    let touched = false;
    let wait = SHORTEST;
    let known = new Set([key.toLowerCase()]);
    const read = async () => {
      timer = 0;
      busy = true;
      const began = performance.now();
      const found = await load(key, at, connection, abort.signal);
      if (abort.signal.aborted) return;
      known = new Set([...(found.trails || []).flatMap((trail) => [trail.dns_root, ...trail.steps.map((step) => step.target)]), key.toLowerCase()]);
      set(found);
      await drawn();
      if (abort.signal.aborted) return;
      wait = Math.max(SHORTEST, SHARE * (performance.now() - began));
      busy = false;
      if (touched) ask();
    };
    const ask = () => {
      touched = busy || Boolean(timer);
      if (!touched && !document.hidden) timer = setTimeout(read, wait);
    };
    const take = (entries) => {
      const touches = (entry) => known.has(entry.name) || known.has(entry.dst) || (entry.relations || []).some((relation) => known.has(relation[0]) || known.has(relation[2]));
      if (entries.some(touches)) ask();
    };
    read();
    const ends = at === null ? [feed.on("questions", take), feed.on("connections", take)] : [];
    return () => {
      abort.abort();
      clearTimeout(timer);
      ends.forEach((end) => end());
    };
  }, [asked]);
  return state;
}

async function load(key, at, connection, signal) {
  const time = at === null ? {} : { at: at.toFixed(6) };
  const shared = { loading: false, at: at ?? Date.now() / 1000, isPast: at !== null };
  try {
    const [found, reply] = await Promise.all([
      get("get", { key, ...time, ...connection }, signal).catch((error) => (error.error === "data_not_found" ? null : Promise.reject(error))),
      get("trail", { key, ...time, ...connection, limit: MOST }, signal),
    ]);
    const data = reply.data;
    const trails = [...data.trails];
    const addresses = found && !isAddress(data.key) ? found.data.ip_addresses.slice(0, MOST_ADDRESSES) : [];
    const names = found ? found.data.dns_queries : [];
    const read = (one, scope) => get("trail", { key: one, ...time, ...scope, limit: MOST }, signal).then((some) => some.data.trails, ignoreMissing);
    const scope = { ...scopeOf(trails[0]), ...connection };
    const below = await Promise.all(addresses.map((one) => read(one, scope)));
    const through = below.map((some) => some.filter((trail) => passes(trail, data.key)));
    if (trails.length && through.some((some) => !some.length)) {
      const aliases = names.filter((name) => name !== data.key).slice(0, MOST_ALIASES);
      const chains = (await Promise.all(aliases.map((one) => read(one, {})))).flat().filter((trail) => passes(trail, data.key));
      through.forEach((some, place) => some.length || some.push(joined(chains, trails[0], addresses[place])));
    }
    trails.push(...through.flat());
    const shown = new Set(trails.flatMap((trail) => [trail.dns_root, ...trail.steps.map((step) => step.target)]));
    return {
      ...shared,
      key: data.key,
      reply: reply.source ? { ...data, source: reply.source } : data,
      trails: below.length ? deduplicated(trails, data.key) : trails,
      names,
      more: names.filter((name) => !shown.has(name)).length,
      get: found?.data,
      source: reply.source || "",
      truncated: data.truncated || found?.data.truncated,
      notice: data.history === false ? { text: "Not known in full: the history ends before this time, or a part of it is missing. What is shown held then; more may have." } : null,
    };
  } catch (error) {
    if (error.name === "AbortError") return shared;
    return { ...shared, notice: noticeOf(error) };
  }
}

function ignoreMissing(error) {
  if (error.name === "AbortError") throw error;
  return [];
}

/** Return the scope that ranks the paths of whoever asked first: of an address with many names, only some are read. */
function scopeOf(trail) {
  const { process_id: process, container_id: container, client } = trail?.asked[0] || {};
  return { process: process || "", container, client };
}

const passes = (trail, name) => trail.steps.some((step) => step.owner === name || (step.target === name && step.kind !== "PTR"));

/**
 * Return the longest path of a question, continued to an address. The cache ranks 512 paths to an address, the shortest
 * first: of an address with more names, the path over aliases is known, but not the life of its last relation.
 */
function joined(chains, own, address) {
  const longest = chains.filter((trail) => trail.dns_root === own.dns_root).sort((one, other) => other.steps.length - one.steps.length)[0] || own;
  const owner = longest.steps.at(-1)?.target || longest.dns_root;
  return { ...longest, steps: [...longest.steps, { owner, kind: "", target: address, state: own.state }] };
}

/** Leave out a path that another one contains: the way to a name, where that to its address is shown. */
function deduplicated(trails, name) {
  const longer = new Set(trails.filter((trail) => trail.steps.some((step) => step.owner === name)).map((trail) => trail.dns_root));
  const kept = trails.filter((trail) => trail.steps.some((step) => step.owner === name) || !longer.has(trail.dns_root));
  return kept.sort((one, other) => rank(one, trails) - rank(other, trails)).map((trail, place) => ({ ...trail, rival: trail.dns_root !== kept[0].dns_root }));
}

/** The place of a question among all paths, the first ones of which lead to the key itself. */
function rank(trail, trails) {
  return trails.findIndex((one) => one.dns_root === trail.dns_root);
}

function noticeOf(error) {
  if (error.error !== "data_not_found") return { error: true, text: error.message };
  if (error.reply.history === false) return { text: "Not known: the history ends before this time, or a part of it is missing." };
  const { asked } = error.reply;
  return { text: `Not found: no answer named it ${asked ? `; it was asked for in vain${asked.outcome ? ` (${asked.outcome})` : ""}` : "at this time"}.` };
}
