"""Lookups over a view of the live relations (docs/lookups.md)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from dnstrail.dns.names import address_text
from dnstrail.image.relation import DIRECT, Relation
from dnstrail.image.view import View
from dnstrail.image.walk import Walk, walk_direct, walk_down, walk_up


class LookupResult(msgspec.Struct, frozen=True):
    """The result of a lookup; it contains only names and addresses that live relations connect with the key.

    `truncated` states that the bound on the nodes of a result left some out. `exact` is False if the lookup is for a
    past time and the state of one of its relations at that time is no longer known.
    """

    ip_addresses: list[str]
    dns_queries: list[str]
    dns_root: str
    state: str = "live"
    truncated: bool = False
    exact: bool = True

    @property
    def fields(self) -> dict[str, Any]:
        """Return the fields of a reply."""
        return {
            "ip_addresses": self.ip_addresses,
            "dns_queries": self.dns_queries,
            "dns_root": self.dns_root,
            "state": self.state,
            "truncated": self.truncated,
        }


def lookup(view: View, key: str, limit: int) -> LookupResult | None:
    """Look up a key in canonical form; return None if nothing live touches it. Always terminates."""
    is_address = address_text(key) is not None
    root = find_root(view, key)
    up = walk_up(view, key, limit)
    down = Walk({key: 0}) if is_address else walk_down(view, key, limit)
    if is_address:
        names = _in_order(view, root, chain(view, root, up), set(up.distance) - {key}) if root else []
        names += [name for name in _pointer_names(view, key) if name not in up.distance and name != root]
        addresses = [key]
    elif root:
        names = _in_order(view, root, chain(view, root, up), {*up.distance, *_names(down)})
        addresses = _addresses(view, key, down)
    else:
        names = [key]
        addresses = _pointer_addresses(view, key)
    if not names or (root is None and not addresses):
        return None
    without = view.with_grace(0)
    state = "live" if _finds(without, key, is_address, limit) else "grace"
    return LookupResult(addresses, names, root or "", state, up.cut or down.cut, view.exact and without.exact)


def find_root(view: View, key: str) -> str | None:
    """Return the key if it was asked and an answer to it is live, else the last question whose answers touch it.

    Return None if no live forward relation touches the key.
    """
    if any(key in relation.roots for relation in view.out(key)):
        return key
    latest = max(
        ((seen.message, root) for relation in view.touching(key) for root, seen in relation.roots.items()),
        default=None,
    )
    return latest[1] if latest else None


def chain(view: View, root: str, up: Walk) -> list[Relation]:
    """Return the shortest live chain of relations from the root to the start of `up`; [] without any."""
    steps: list[Relation] = []
    at = root
    while up.distance.get(at):  # not arrived, and not out of reach
        steps.append(nearest_step(view, at, up))
        at = steps[-1].target
    return steps


def nearest_step(view: View, at: str, up: Walk) -> Relation:
    """Return the first step of the shortest chain from a name that `up` met; of several, the last seen target."""
    nearer = [r for r in view.out(at) if up.distance.get(r.target) == up.distance[at] - 1]
    return min(nearer, key=lambda r: (-view.last_seen(r.target), r.target, r.kind))


def _in_order(view: View, root: str, steps: list[Relation], names: set[str]) -> list[str]:
    """Return the root, the chain from it to the key, then the other names, newest first."""
    head = [root, *(step.target for step in steps if step.target in names)]
    rest = names.difference(head)
    return head + sorted(rest, key=lambda name: (-view.last_seen(name), name))


def _names(walk: Walk) -> list[str]:
    return [node for node in walk.distance if address_text(node) is None]


def _addresses(view: View, key: str, down: Walk) -> list[str]:
    """Return direct and alias addresses first, then the addresses behind MX and SRV, each group newest first."""
    direct = walk_direct(view, key, len(down.distance) - 1)  # without the key
    near = _newest_first(r for name in _names(direct) for r in view.out(name) if r.kind in DIRECT)
    far = _newest_first(r for name in _names(down) for r in view.out(name))
    return [a for a in near if a in direct.distance] + [
        a for a in far if a in down.distance and a not in direct.distance
    ]


def _newest_first(relations: Iterable[Relation]) -> list[str]:
    """Return the address targets of relations by their last sighting; ties in the order of the records."""
    best: dict[str, tuple[float, tuple[int, int]]] = {}
    for relation in relations:
        if address_text(relation.target):
            rank = -relation.last_seen, relation.order
            best[relation.target] = min(rank, best.get(relation.target, rank))
    return sorted(best, key=best.__getitem__)


def _pointer_names(view: View, address: str) -> list[str]:
    return [r.target for r in sorted(view.names_of(address), key=lambda r: (-r.last_seen, r.target))]


def _pointer_addresses(view: View, name: str) -> list[str]:
    return [r.owner for r in sorted(view.addresses_of(name), key=lambda r: (-r.last_seen, r.order))]


def _finds(view: View, key: str, is_address: bool, limit: int) -> bool:
    """Return whether a lookup of a name finds an address, or a lookup of an address a name."""
    if is_address:
        return bool(view.into(key) or view.names_of(key))
    if view.touches(key):
        return any(address_text(node) for node in walk_down(view, key, limit).distance)
    return bool(view.addresses_of(key))
