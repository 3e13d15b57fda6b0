// Requests to the server. Its errors are those of the wire: {"error", "message"}.

/**
 * Parse JSON of the server. Time stamps in ns are larger than the exact integers of JavaScript, and stay text. No text
 * of a stranger matches: inside a string of JSON each quote has a backslash.
 */
export function parse(text) {
  return JSON.parse(text.replace(/"timestamp":(\d+)/g, '"timestamp":"$1"'));
}

/** Return JSON as the server writes it: the inverse of `parse`. */
export function serialize(value) {
  return JSON.stringify(value).replace(/"timestamp":"(\d+)"/g, '"timestamp":$1');
}

export class ApiError extends Error {
  constructor(status, reply) {
    super(reply.message || `the server answered ${status}`);
    this.status = status;
    this.error = reply.error || "internal";
    this.reply = reply;
  }
}

const sessions = new EventTarget();

/** Call a function when the session is over. */
export function onSessionEnd(call) {
  sessions.addEventListener("end", call);
  return () => sessions.removeEventListener("end", call);
}

function query(params) {
  const pairs = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== null && one !== "") pairs.append(name, one);
    }
  }
  const text = pairs.toString();
  return text && `?${text}`;
}

async function send(path, params, options) {
  let response;
  try {
    response = await fetch(`/api/${path}${query(params)}`, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { error: "unavailable", message: "the server does not answer" });
  }
  if (response.ok) return response;
  if (response.status === 401) sessions.dispatchEvent(new Event("end"));
  throw new ApiError(response.status, await response.json().catch(() => ({})));
}

/** Return the reply to a GET, as JSON. Raises ApiError. */
export async function get(path, params = {}, signal = undefined) {
  return parse(await (await send(path, params, { signal })).text());
}

/** Send JSON by a POST or a DELETE, and return the reply. Raises ApiError. */
export async function write(method, path, body = undefined) {
  const headers = body ? { "Content-Type": "application/json" } : {};
  return (await send(path, {}, { method, headers, body: body && JSON.stringify(body) })).json();
}

/** Call `take` with the objects of an NDJSON reply, some hundred at a time, so that the page stays responsive. */
export async function lines(path, params, take, signal) {
  const reader = (await send(path, params, { signal })).body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    const parts = (rest + (value || "")).split("\n");
    rest = done ? "" : parts.pop();
    const objects = parts.filter(Boolean).map((line) => parse(line));
    for (let from = 0; from < objects.length; from += 500) {
      take(objects.slice(from, from + 500));
      await new Promise((next) => setTimeout(next));
    }
    if (done) return;
  }
}

/** Return all open connections, page by page, at most `most`. */
export async function openConnections(params, most, signal) {
  const found = [];
  let cursor = "";
  do {
    const page = (await get("connections", { ...params, cursor }, signal)).data;
    found.push(...page.connections);
    cursor = page.next;
  } while (cursor && found.length < most);
  return found;
}
