"""The usual lookup: one record touches the key, and states one chain of aliases to addresses (docs/image.md)."""

from __future__ import annotations

from typing import Final

from dnstrail.image.graph import Graph
from dnstrail.image.kind import ADDRESSES, CNAME
from dnstrail.image.record import Record, Root
from dnstrail.image.result import LookupResult

MOST: Final = 16  # relations of the record


def look_up_usual(graph: Graph, key: str, t: int, most: int) -> tuple[LookupResult, Root] | None:
    """Return what `look_up` returns at the present time `t`, if it is simple to tell; else None.

    No other record may touch a node of the walk. All relations of the record, `most` at most, must be live by its last
    answer without grace.
    """
    out, into = graph.out, graph.into
    above = into.get(key)
    record = out.get(key, above)
    if not isinstance(record, Record) or (above is not None and above is not record):
        return None
    chain = _chain(record, t, most)
    if chain is None:
        return None
    names, addresses = chain
    place = names.index(key) if key in names else len(names)
    for name in names[:place]:
        if into.get(name, record) is not record:
            return None
    below = names[place + 1 :]
    for name in below:
        if out.get(name, record) is not record:
            return None
    if len(below) > 1:
        names[place + 1 :] = sorted(below)
    return LookupResult(addresses if place < len(names) else [key], names, names[0]), record.root


def _chain(record: Record, t: int, most: int) -> tuple[list[str], list[str]] | None:
    """Return the names and addresses of a record that states one chain, and is wholly live at `t`; else None."""
    youngest, edges = record.youngest, record.edges
    if record.late or len(edges) > most or youngest.stamp + min(youngest.lives) <= t:
        return None
    last = record.root.name
    names: list[str] = [last]
    addresses: list[str] = []
    for owner, kind, target in edges:
        if owner != last:
            return None
        if kind == CNAME and not addresses and target not in names:
            names.append(target)
            last = target
        elif kind in ADDRESSES:
            addresses.append(target)
        else:
            return None
    if len(addresses) > 1 and len(set(addresses)) < len(addresses):
        return None  # an address in IPv4 and in IPv4-mapped form
    return names, addresses
