// The columns of Now.

import { boundWords, bytes, clock, count, duration, OUTCOMES, visible } from "../format.js";
import { html } from "../html.js";

const MONO = new Set(["domain", "name", "address"]);

/** Return "curl 4711", or the address of a client of another host. */
export function processText(entry) {
  return entry.process_name ? `${visible(entry.process_name)} ${entry.process_id}` : entry.src || entry.client || "";
}

function label(group) {
  const { fact } = group;
  if (!fact) return html`<span class=${MONO.has(group.field) ? "mono" : group.value ? "" : "quiet"}>${visible(group.label)}</span>${group.field === "process" && html` <span class="quiet">${visible(group.program)}</span>`}`;
  const state = fact.error ? visible(fact.error) : fact.over ? "closed" : fact.connected === false ? "failed" : "open";
  return html`<span class="mono">${processText(fact.entry)}:${fact.entry.src_port || ""} → ${fact.entry.dst_port} ${fact.entry.transport}</span> <span class="tag ${fact.error ? "bad" : fact.over ? "" : "good"}">${state}</span>`;
}

/** Return what is to note about a group: failures by outcome; how its connections were bound, and their rivals. */
function notes(group) {
  const { fact } = group;
  if (fact) {
    const rivals = fact.rivals.length;
    return `${boundWords(fact.bound)}${rivals ? `; ${rivals} ${rivals > 1 ? "rivals" : "rival"}: ${fact.rivals.slice(0, 3).map(visible).join(", ")}` : ""}`;
  }
  const failures = Object.entries(group.outcomes).filter(([, number]) => number > 0).sort((one, other) => other[1] - one[1]);
  const parts = failures.map(([outcome, number]) => `${OUTCOMES[outcome]} ${number}`);
  if (group.field === "address") parts.push(...boundCounts(group));
  return parts.join(", ");
}

function boundCounts(group) {
  const counts = new Map();
  for (const { fact } of group.children.values()) if (fact) counts.set(fact.bound, (counts.get(fact.bound) || 0) + 1);
  return [...counts].map(([bound, number]) => `${boundWords(bound)}${number > 1 ? ` ${number}` : ""}`);
}

export const groupColumns = [
  { id: "name", title: "Who", width: "minmax(200px, 3fr)", show: label, sorts: "up" },
  { id: "lookups", title: "Lookups", width: "76px", number: true, show: (group) => count(group.lookups || group.answers || ""), sorts: "down", unit: "lookups" },
  { id: "failed", title: "Failed", width: "64px", number: true, show: (group) => count(group.failed + group.broken || ""), tone: () => "bad", sorts: "down", unit: "failed" },
  { id: "connections", title: "Conn.", width: "64px", number: true, show: (group) => (group.fact ? "" : count(group.connections || "")), sorts: "down", unit: "conn." },
  { id: "bytes", title: "Bytes", width: "76px", number: true, show: (group) => (group.sent + group.received ? bytes(group.sent + group.received) : ""), sorts: "down" },
  { id: "wait", title: "Mean wait", width: "84px", number: true, show: (group) => duration(group.wait), sorts: "down", spare: true },
  { id: "notes", title: "Outcome, binding", width: "minmax(100px, 2fr)", show: notes, rest: true },
  { id: "last", title: "Last", width: "72px", number: true, show: (group) => clock(group.last).slice(-8), sorts: "down", spare: true },
];

function factText(fact) {
  return fact.kind === "question" ? `${fact.entry.type} ${visible(fact.name)}` : `${visible(fact.name || "(no name)")} → ${fact.address}:${fact.entry.dst_port}`;
}

function outcomeText(fact) {
  if (fact.kind === "connection") return fact.error ? visible(fact.error) : fact.over ? `closed; ${boundWords(fact.bound)}` : `open; ${boundWords(fact.bound)}`;
  return fact.outcome === "answered" ? fact.answers.join(", ") || "answered" : OUTCOMES[fact.outcome] || fact.outcome;
}

const failed = (fact) => (fact.error || (fact.kind === "question" && !["answered", "no_data"].includes(fact.outcome)) ? "bad" : "");
const took = ({ entry }) => entry.waited ?? entry.lasted;

export const listColumns = [
  { id: "what", title: "Fact", width: "minmax(260px, 2fr)", mono: true, show: factText },
  { id: "time", title: "Time", width: "92px", show: (fact) => clock(fact.time, true).slice(-12) },
  { id: "process", title: "Process", width: "minmax(120px, 1fr)", show: (fact) => processText(fact.entry) },
  { id: "container", title: "Container, unit", width: "minmax(0, 0.6fr)", show: (fact) => visible(fact.container || fact.unit), spare: true },
  { id: "outcome", title: "Outcome", width: "minmax(160px, 1.6fr)", show: outcomeText, tone: failed, rest: true },
  { id: "took", title: "Took", width: "76px", number: true, show: (fact) => (took(fact) === undefined ? "" : duration(took(fact) / 1e9)) },
];
