// Rendering in batches: however often something changes, it is drawn on an animation frame, some times a second at most.

import { useEffect, useState } from "./html.js";

/** Return `ask` and `cancel`: after each `ask`, `call` runs on a frame, at most `perSecond` times a second. */
export function pace(call, perSecond) {
  let timer = 0;
  let frame = 0;
  let last = -Infinity;
  const run = () => {
    frame = 0;
    last = performance.now();
    call();
  };
  const wait = () => {
    timer = 0;
    frame = requestAnimationFrame(run);
  };
  return {
    ask() {
      if (!timer && !frame) timer = setTimeout(wait, Math.max(0, last + 1000 / perSecond - performance.now()));
    },
    cancel() {
      clearTimeout(timer);
      cancelAnimationFrame(frame);
      timer = frame = 0;
    },
  };
}

/** Wait until what has been rendered is drawn; while the page is hidden, until it is visible. */
export function drawn() {
  return new Promise((next) => requestAnimationFrame(() => setTimeout(next)));
}

/** Render again when an EventTarget has changed, at most `perSecond` times a second. */
export function useChanges(target, perSecond) {
  const [, set] = useState(0);
  useEffect(() => {
    const paced = pace(() => set((turn) => turn + 1), perSecond);
    target.addEventListener("change", paced.ask);
    return () => {
      target.removeEventListener("change", paced.ask);
      paced.cancel();
    };
  }, [target, perSecond]);
}

/** Render again every second, while the page is visible. Returns the time in seconds since the epoch. */
export function useSeconds(every = 1) {
  const [now, set] = useState(Date.now() / 1000);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || set(Date.now() / 1000), every * 1000);
    return () => clearInterval(timer);
  }, [every]);
  return now;
}

/**
 * Call `read` now, and again `every` ms after it has ended, while the page is visible. Returns what ends it; the signal
 * that `read` receives is aborted then.
 */
export function poll(read, every) {
  const abort = new AbortController();
  let timer = 0;
  const next = async () => {
    if (!document.hidden) await read(abort.signal);
    if (!abort.signal.aborted) timer = setTimeout(next, every);
  };
  next();
  return () => {
    abort.abort();
    clearTimeout(timer);
  };
}

/** Return whether a media query holds. */
export function useMedia(query) {
  const [holds, set] = useState(() => matchMedia(query).matches);
  useEffect(() => {
    const list = matchMedia(query);
    const update = () => set(list.matches);
    list.addEventListener("change", update);
    return () => list.removeEventListener("change", update);
  }, [query]);
  return holds;
}
