"""Lookups by reverse records alone: the names of an address, and the addresses of a name (docs/inside/image.md)."""

from __future__ import annotations

from typing import Final

from dnstrail.image.graph import newest_first
from dnstrail.image.record import Record, Root
from dnstrail.image.result import LookupResult
from dnstrail.image.view import NEVER, View

_LEAST: Final = 64  # live relations that are read, whatever other lookups of the request have read


def look_up_pointers(view: View, key: str, nodes: int, *, is_address: bool) -> tuple[LookupResult, Root] | None:
    """Look up a key by its reverse records; return None if it has no live ones."""
    ranks: dict[str, tuple[int, int, int]] = {}  # freshness (negative), number of the answer, place there
    last, root = (NEVER, 0), None
    relations = reverse_records(view, key, is_address=is_address)
    cut = view.budget < 0
    for record, place, fresh in relations:
        if len(ranks) >= nodes:
            cut = True
            break
        owner, _, target = record.edges[place]
        other = target if is_address else owner
        number = view.number(record, place, fresh)
        known = ranks.get(other)
        if known is None or (-fresh, -number) < (known[0], -known[1]):
            ranks[other] = -fresh, number, place
        if root is None or (fresh, number) > last:
            last, root = (fresh, number), record.root
    if root is None:
        return None
    others = sorted(ranks, key=ranks.__getitem__)
    if is_address:
        others = [name for _, name in sorted([(rank[0], name) for name, rank in ranks.items()])]
    addresses, names = ([key], others) if is_address else (others, [key])
    grace = view.aged and not reverse_records(view.without_grace(), key, is_address=is_address)
    return LookupResult(addresses, names, "", "grace" if grace else "live", cut, view.exact), root


def reverse_records(view: View, key: str, *, is_address: bool) -> list[tuple[Record, int, int]]:
    """Return the live PTR relations of an address, or to a name: record, place and freshness.

    If the bound on relations leaves some out, the budget of the view is negative.
    """
    found: list[tuple[Record, int, int]] = []
    for record in newest_first(view.graph.out if is_address else view.graph.pointed, key):
        for place in record.owned_by(key) if is_address else record.leading_to(key):
            if record.edges[place][0 if is_address else 2] == key:
                view.budget -= 1
                if view.budget < 0 and len(found) >= _LEAST:
                    return found
                fresh = view.freshness(record, place)
                if fresh != NEVER:
                    found.append((record, place, fresh))
    return found
