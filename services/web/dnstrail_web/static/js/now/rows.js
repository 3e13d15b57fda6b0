// What an export of Now contains.

/** Return the facts as `dnstrail log --json` prints them. */
export function factRows(facts) {
  const objects = facts.map(({ entry: { domain, ...entry } }) => entry);
  const columns = [...new Set(objects.flatMap(Object.keys))];
  return { columns, objects: objects.reverse() };
}

const FIGURES = ["lookups", "failed", "connections", "bytes_sent", "bytes_received", "mean_wait", "last"];

/** Return the last groups with their figures: bytes, seconds, and seconds since the epoch. */
export function groupRows(groups, fields) {
  const objects = groups.map((group) => {
    const row = Object.fromEntries(fields.map((field) => [field, ""]));
    for (let one = group; one.parent; one = one.parent) row[one.field] = one.value;
    const below = sums(group);
    return { ...row, ...below, mean_wait: group.wait, last: group.last };
  });
  return { columns: [...fields, ...FIGURES], objects };
}

/** Return the figures of a group without those of the groups below it, which have rows of their own. */
function sums(group) {
  const below = [...group.children.values()].filter((one) => one.field !== "connection");
  const own = (name) => below.reduce((rest, one) => rest - one[name], group[name]);
  return { lookups: own("lookups"), failed: own("failed"), connections: own("connections"), bytes_sent: own("sent"), bytes_received: own("received") };
}
