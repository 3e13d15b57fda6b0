"""The usual lookup: the only record that touches the key gives the whole result (docs/image.md)."""

from __future__ import annotations

from typing import Final

from dnstrail.image.graph import Graph, Index
from dnstrail.image.kind import ADDRESSES, CNAME, FAR, PTR
from dnstrail.image.record import LATE, Record, Root
from dnstrail.image.result import LookupResult
from dnstrail.image.shards import MASK

MOST: Final = 16  # relations of the record


def look_up_usual(graph: Graph, key: str, t: int, most: int) -> tuple[LookupResult, Root] | None:
    """Return what `look_up` returns at the present time `t`, if it is simple to tell; else None.

    No other record may touch a node of the walk. All relations of the record, `most` at most, must be live by its last
    answer without grace.
    """
    part = hash(key) & MASK
    above = graph.into.parts[part].get(key)
    record = graph.out.parts[part].get(key) or above
    if not isinstance(record, Record) or (above is not None and above is not record):
        return None
    youngest, edges = record.youngest, record.edges
    if record.latest == LATE or len(edges) > most or youngest.stamp + min(youngest.lives) <= t:
        return None
    if edges[0][1] == PTR:
        return LookupResult([key], sorted([target for _, _, target in edges]), ""), record.root
    return _along_chain(graph, record, key)


def _along_chain(graph: Graph, record: Record, key: str) -> tuple[LookupResult, Root] | None:
    """Return the result by a record that states one chain; None if another record touches a node of the walk."""
    out, into = graph.out, graph.into
    chain = _chain(record, out)
    if chain is None:
        return None
    names, addresses, far = chain
    place = names.index(key) if key in names else len(names)
    for name in names[:place]:
        if (into.get(name) or record) is not record:
            return None
    if place == len(names):
        result = LookupResult([], [*names, key], names[0]) if key in far else LookupResult([key], names, names[0])
        return result, record.root
    below = names[place + 1 :]
    for name in below:
        if (out.get(name) or record) is not record:
            return None
    if below or far:
        names[place + 1 :] = sorted({*below, *far})
    return LookupResult(addresses, names, names[0]), record.root


def _chain(record: Record, out: Index) -> tuple[list[str], list[str], list[str]] | None:
    """Return the aliases, addresses and services of a record that states one chain; None for any other record.

    The aliases begin with the question. The services are targets of MX and SRV that own no relation.
    """
    last = record.root.name
    names: list[str] = [last]
    addresses: list[str] = []
    far: list[str] = []
    for owner, kind, target in record.edges:
        if owner != last:
            return None
        if kind in ADDRESSES:
            addresses.append(target)
        elif kind == CNAME and not addresses and not far and target not in names:
            names.append(target)
            last = target
        elif kind in FAR and target not in out and target not in names:
            far.append(target)
        else:
            return None
    if len(addresses) > 1:
        addresses = [*dict.fromkeys(addresses)]  # a server may state one in IPv4 and in IPv4-mapped form
    return names, addresses, far
