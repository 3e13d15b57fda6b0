// The address of the page: a view, and its parameters in the query. A link with them shows the same again.

import { useEffect, useState } from "./html.js";

export const VIEWS = ["now", "trail", "new", "findings", "health", "hosts"];
const changed = new EventTarget();

/** Return the view and the parameters of the page's address. */
export function address() {
  const name = location.pathname.slice(1);
  return { view: VIEWS.includes(name) ? name : "now", params: Object.fromEntries(new URLSearchParams(location.search)) };
}

/** Return the address of a view; parameters without a value are left out. */
export function href(view, params = {}) {
  const given = Object.entries(params).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const query = new URLSearchParams(given).toString();
  return `/${view}${query && `?${query}`}`;
}

/** Show a view. With `replace`, the address before does not stay in the history of the browser. */
export function go(to, { replace = false } = {}) {
  if (to === location.pathname + location.search) return;
  history[replace ? "replaceState" : "pushState"](null, "", to);
  changed.dispatchEvent(new Event("change"));
}

/** Change some parameters of this view. */
export function change(params, options) {
  const now = address();
  go(href(now.view, { ...now.params, ...params }), options);
}

/** Return the address, and render again when it changes. */
export function useAddress() {
  const [now, set] = useState(address);
  useEffect(() => {
    const update = () => set(address());
    changed.addEventListener("change", update);
    addEventListener("popstate", update);
    return () => {
      changed.removeEventListener("change", update);
      removeEventListener("popstate", update);
    };
  }, []);
  return now;
}

/** Follow links between views without loading the page. */
export function followLinks(root) {
  root.addEventListener("click", (event) => {
    const link = event.target.closest("a[href]");
    if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const to = new URL(link.getAttribute("href"), location);
    if (to.origin !== location.origin || link.hasAttribute("download") || !VIEWS.includes(to.pathname.slice(1))) return;
    event.preventDefault();
    go(to.pathname + to.search);
  });
}
