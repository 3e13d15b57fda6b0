// The filter of facts, in the terms of `dnstrail log`: process:curl name:*.example outcome:nxdomain slower:200ms.

import { OUTCOMES } from "../format.js";

export const FIELDS = ["process", "container", "unit", "name", "outcome", "address", "slower"];
const UNITS = { ms: 0.001, s: 1, m: 60 };

/** Return {text, options, wrong}: options as in `/api/log`; a word alone is part of a name. `wrong` lists bad words. */
export function parseFilter(text) {
  const options = {};
  const wrong = [];
  for (const [word] of text.matchAll(/(?:[^\s"]|"[^"]*"?)+/g)) {
    const colon = word.indexOf(":");
    const field = FIELDS.includes(word.slice(0, colon)) ? word.slice(0, colon) : "name";
    const value = (field === word.slice(0, colon) ? word.slice(colon + 1) : word).replaceAll('"', "");
    const given = field === "name" && !word.startsWith("name:") ? `*${value}*` : value;
    if (!value || !isGood(field, given)) wrong.push(word);
    else if (field === "outcome") options.outcome = [...(options.outcome || []), given];
    else options[field] = given;
  }
  return { options, wrong };
}

function isGood(field, value) {
  if (field === "outcome") return Object.hasOwn(OUTCOMES, value);
  if (field === "slower") return seconds(value) !== null;
  if (field === "address") return network(value) !== null;
  return true;
}

/** Return a length of time such as 200ms, 1.5s or 2m in seconds; null if it is none. */
export function seconds(text) {
  const parts = /^(\d+(?:\.\d+)?)(ms|s|m)$/.exec(text);
  return parts && Number(parts[1]) * UNITS[parts[2]];
}

/** Return the options as `/api/log` takes them: `slower` in seconds. */
export function asParameters(options) {
  return { ...options, slower: options.slower && seconds(options.slower) };
}

/** Return a function that states whether a fact fits all options, as the server does. */
export function matcher(options) {
  const tests = [];
  if (options.name) tests.push(pattern(storedName(options.name).toLowerCase().replace(/(?<=.)\.$/, ""), (fact) => fact.name));
  if (options.process) {
    const fits = glob(options.process);
    tests.push((fact) => fact.entry.process_id !== 0 && (String(fact.entry.process_id) === options.process || fits.test(fact.entry.process_name || "")));
  }
  if (options.container) {
    const fits = glob(options.container);
    const ofUser = options.container.includes("/"); // a container of a user is USER/NAME, and its image is the user's choice
    const isLabelled = labelTest(options.container);
    tests.push(({ entry: { container_id: id, container_name: name, container_image: image, container_labels: labels } }) => {
      if (!id || (id.includes("/") && !ofUser)) return false;
      const named = [name, id.includes("/") ? id : image].some((one) => one && fits.test(one));
      return named || id.startsWith(options.container) || isLabelled(id, labels || {});
    });
  }
  if (options.unit) {
    const fits = glob(options.unit);
    const ofUser = options.unit.includes("/"); // a unit of a user is USER/UNIT
    tests.push(({ entry }) => [entry.unit, entry.slice].some((one) => one && one.includes("/") === ofUser && fits.test(one)));
  }
  if (options.outcome) tests.push((fact) => options.outcome.includes(fact.outcome));
  if (options.slower) {
    const least = seconds(options.slower) * 1e9;
    tests.push((fact) => fact.kind === "question" && fact.entry.waited >= least);
  }
  if (options.address) {
    const wanted = network(options.address);
    tests.push((fact) => (fact.kind === "question" ? fact.answers : [fact.address]).some((one) => contains(wanted, one)));
  }
  return (fact) => tests.every((test) => test(fact));
}

/** Return a function that states whether a container has the label KEY=PATTERN; one of a user, USER/KEY=PATTERN. */
function labelTest(text) {
  const [, given, value] = /^([^=]*)=(.*)$/s.exec(text) || [];
  if (value === undefined) return () => false;
  const [, user, rest] = /^([^/]*)\/(.*)$/s.exec(given) || [];
  const fits = glob(value);
  return (id, labels) => {
    const owner = id.includes("/") ? id.slice(0, id.lastIndexOf("/")) : "";
    if (owner && (user === undefined || !glob(user).test(owner))) return false;
    const key = owner ? rest : given;
    return Object.hasOwn(labels, key) && fits.test(labels[key]);
  };
}

/** Return a name in Unicode as the name in ASCII that was asked for (IDNA), and a pattern or another name as it is. */
function storedName(name) {
  const isInUnicode = /[^\0-\x7f]/.test(name) && !/[*?[]/.test(name) && URL.canParse(`http://${name}`);
  return isInUnicode ? new URL(`http://${name}`).hostname : name;
}

function pattern(text, of) {
  const fits = glob(text);
  return (fact) => fits.test(of(fact));
}

/** Return the regular expression of a pattern of a shell: *, ?, [abc], [!abc]. */
export function glob(text) {
  let out = "";
  for (let at = 0; at < text.length; at += 1) {
    const close = text[at] === "[" ? text.indexOf("]", at + 2) : -1;
    if (text[at] === "*") out += "[^]*";
    else if (text[at] === "?") out += "[^]";
    else if (close > 0) {
      const inside = text.slice(at + 1, close).replace(/[\\\]^]/g, "\\$&");
      out += text[at + 1] === "!" ? `[^${inside.slice(1)}]` : `[${inside}]`;
      at = close;
    } else out += text[at].replace(/[\\^$.|+(){}[\]]/g, "\\$&");
  }
  try {
    return new RegExp(`^${out}$`, "u");
  } catch {
    return /^\b$/; // a range such as [z-a] fits nothing
  }
}

/** Return {bits, length, value} of an address or a network; null if it is none. */
export function network(text) {
  const [address, size, ...more] = text.split("/");
  const value = number(address);
  if (value === null || more.length || (size !== undefined && !/^\d+$/.test(size))) return null;
  const bits = address.includes(":") ? 128 : 32;
  const length = size === undefined ? bits : Number(size);
  return length <= bits ? { bits, length, value } : null;
}

function contains(wanted, address) {
  const value = number(address);
  const free = BigInt(wanted.bits - wanted.length);
  return value !== null && (address.includes(":") ? 128 : 32) === wanted.bits && value >> free === wanted.value >> free;
}

function number(address) {
  if (/^\d+(\.\d+){3}$/.test(address)) {
    const parts = address.split(".").map(Number);
    return parts.every((part) => part < 256) ? parts.reduce((sum, part) => (sum << 8n) | BigInt(part), 0n) : null;
  }
  if (!/^[0-9a-f:]+$/i.test(address)) return null;
  const halves = address.split("::").map((half) => (half ? half.split(":") : []));
  const missing = 8 - halves.flat().length;
  if (halves.length > 2 || (halves.length === 2 ? missing < 1 : missing !== 0)) return null;
  const groups = halves.length === 2 ? [...halves[0], ...Array(missing).fill("0"), ...halves[1]] : halves[0];
  return groups.every((group) => /^[0-9a-f]{1,4}$/i.test(group)) ? groups.reduce((sum, group) => (sum << 16n) | BigInt(`0x${group}`), 0n) : null;
}
