// Files of what a view shows: CSV (RFC 4180) and JSON, one object on each line.

import { serialize } from "./api.js";

/** Save rows as CSV. */
export function saveCsv(name, columns, rows) {
  save(`${name}.csv`, "text/csv", csvLines(columns, rows));
}

/** Return rows as lines of CSV. A text or a list that a spreadsheet would run as a formula begins with an apostrophe. */
export function csvLines(columns, rows) {
  const field = (value) => {
    const text = value === undefined || value === null ? "" : Array.isArray(value) ? value.join(" ") : String(value);
    const safe = typeof value !== "number" && /^[=+\-@\t\r\n]/.test(text) ? `'${text}` : text;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const lines = [columns, ...rows.map((row) => columns.map((column) => row[column]))];
  return lines.map((line) => `${line.map(field).join(",")}\r\n`);
}

/** Save objects as JSON, one on each line. */
export function saveJson(name, objects) {
  save(`${name}.jsonl`, "application/x-ndjson", objects.map((one) => `${serialize(one)}\n`));
}

function save(name, type, parts) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(parts, { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
