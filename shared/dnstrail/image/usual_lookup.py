"""The usual lookup: the only record that touches the key gives the whole result (docs/inside/image.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dnstrail.image.graph import Graph
from dnstrail.image.kind import AAAA, CNAME, FAR, PTR, A
from dnstrail.image.record import LATE, Record, Root
from dnstrail.image.result import LookupResult
from dnstrail.image.shards import PARTS

if TYPE_CHECKING:
    from mypy_extensions import i64

MOST: Final = 16  # relations of the record
_BOTH: Final = A | AAAA


def look_up_usual(graph: Graph, key: str, t: int, most: int) -> tuple[LookupResult, Root] | None:
    """Return what `look_up` returns at the present time `t`, if it is simple to tell; else None.

    No other record may touch a node of the walk. All relations of the record, `most` at most, must be live by its last
    answer without grace.
    """
    digest: i64 = hash(key)
    part = digest % PARTS
    above = graph.into.parts[part].get(key)
    record = graph.out.parts[part].get(key, above)
    if not isinstance(record, Record) or (above is not None and above is not record):
        return None
    youngest, edges = record.youngest, record.edges
    if record.latest == LATE or len(edges) > most:
        return None
    lasting = t - youngest.stamp
    for life in youngest.lives:
        if life <= lasting:
            return None
    if edges[0][1] == PTR:
        return LookupResult([key], sorted([target for _, _, target in edges]), ""), record.root
    return _along_chain(graph, record, key)


def _along_chain(  # noqa: C901 - one pass, since a call costs more than the tests
    graph: Graph, record: Record, key: str
) -> tuple[LookupResult, Root] | None:
    """Return the result by a record that states one chain; None if another record touches a node of the walk.

    The chain leads from the question along aliases to addresses, or to services: MX and SRV whose targets own nothing.
    """
    into, out, root, edges = graph.into.parts, graph.out.parts, record.root, record.edges
    last = root.name
    place = 0 if key == last else -1  # of the key in the chain
    names: list[str] = [last]
    addresses: list[str] = []
    services: list[str] | None = None
    versions = 0  # of IP in the addresses
    for owner, kind, target in edges:
        if owner != last:
            return None
        if kind == A or kind == AAAA:  # noqa: PLR1714, SIM109 - a set or a tuple costs more
            addresses.append(target)
            versions |= kind
        elif kind == CNAME and not addresses and services is None and target not in names:
            index, node = (into, last) if place < 0 else (out, target)
            digest: i64 = hash(node)
            if index[digest % PARTS].get(node, record) is not record:
                return None
            if target == key:
                place = len(names)
            names.append(target)
            last = target
        elif kind in FAR and target not in names and target not in out[hash(target) % PARTS]:
            services = [target] if services is None else [*services, target]
        else:
            return None
    if place < 0:
        digest = hash(last)
        if into[digest % PARTS].get(last, record) is not record:
            return None
        is_service = services is not None and key in services
        return LookupResult([] if is_service else [key], [*names, key] if is_service else names, root.name), root
    if services is not None or len(names) > place + 2:
        names[place + 1 :] = sorted({*names[place + 1 :], *(services or ())})
    # A server may state one address in IPv4 and in IPv4-mapped form.
    distinct = [*dict.fromkeys(addresses)] if versions == _BOTH else addresses
    return LookupResult(distinct, names, root.name), root
