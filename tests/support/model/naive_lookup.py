"""Lookups over the relations that are live at one instant."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from model.naive_life import Life, Place
from model.naive_wire import address_text

PTR = "PTR"
RESOLVING = ("A", "AAAA", "CNAME", "SVCB", "HTTPS")  # the kinds that lead to the addresses of a name itself


class Live:
    """The live relations at one instant; `touching` indexes forward relations by both ends."""

    def __init__(self, lives: Iterable[Life]) -> None:
        self.pointers: list[Life] = []
        self.touching: dict[str, list[Life]] = {}
        for life in lives:
            if life.kind == PTR:
                self.pointers.append(life)
            else:
                for end in {life.owner, life.target}:
                    self.touching.setdefault(end, []).append(life)

    def out_of(self, name: str) -> list[Life]:
        """Return the live forward relations that a name owns."""
        return [life for life in self.touching.get(name, []) if life.owner == name]

    def into(self, node: str) -> list[Life]:
        """Return the live forward relations whose target is a node."""
        return [life for life in self.touching.get(node, []) if life.target == node]

    def newest_first(self, names: Iterable[str]) -> list[str]:
        """Return the names by the last sighting of a live forward relation that touches them, ties by name."""

        def last_sighting(name: str) -> float:
            return max((life.last_seen for life in self.touching.get(name, [])), default=float("-inf"))

        return sorted(names, key=lambda name: (-last_sighting(name), name))


def spread(start: str, steps: Callable[[str], Iterable[str]]) -> set[str]:
    """Return all nodes that one or more steps reach; the start itself only if a loop leads back to it."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for node in steps(waiting.pop()):
            if node not in found:
                found.add(node)
                waiting.append(node)
    return found


def root_of(live: Live, key: str) -> str:
    """Return the root of a lookup; a live forward relation must touch the key."""
    if any(key in life.roots for life in live.out_of(key)):
        return key
    return max((number, root) for life in live.touching[key] for root, number in life.roots.items())[1]


def chain_of(live: Live, root: str, key: str) -> list[str]:
    """Return the nodes of the shortest live chain from root to key, both included; without one only the root."""
    distance = {key: 0}  # steps from a name to the key
    edge_of_search = [key]
    while edge_of_search:
        node = edge_of_search.pop(0)
        for life in live.into(node):
            if life.owner not in distance:
                distance[life.owner] = distance[node] + 1
                edge_of_search.append(life.owner)
    chain = [root]
    while root in distance and chain[-1] != key:
        here = chain[-1]
        targets = {one.target for one in live.out_of(here)}
        chain.append(live.newest_first(one for one in targets if distance.get(one) == distance[here] - 1)[0])
    return chain


def addresses_below(live: Live, key: str, kinds: tuple[str, ...] | None) -> list[str]:
    """Return the addresses reached from the key by relations of these kinds (None: all), newest first."""

    def usable(name: str) -> list[Life]:
        return [life for life in live.out_of(name) if kinds is None or life.kind in kinds]

    owners = {key} | spread(key, lambda name: (life.target for life in usable(name)))
    best: dict[str, tuple[float, Place]] = {}
    for owner in owners:
        for life in usable(owner):
            if address_text(life.target) is not None:
                rank = (-life.last_seen, life.place)
                best[life.target] = min(rank, best.get(life.target, rank))
    return sorted(best, key=lambda address: best[address])


def answer(live: Live, key: str) -> dict[str, Any] | None:
    """Return the lists and the root of one lookup, without the state; None if nothing live touches the key."""
    is_address = address_text(key) is not None
    pointing = [life for life in live.pointers if key in (life.owner, life.target)]
    pointing.sort(key=lambda life: (-life.last_seen, life.target if is_address else life.place))
    pointed = [life.target if is_address else life.owner for life in pointing]
    if key not in live.touching:
        if not pointed:
            return None
        addresses, queries = ([key], pointed) if is_address else (pointed, [key])
        return {"ip_addresses": addresses, "dns_queries": queries, "dns_root": ""}
    root = root_of(live, key)
    names = {root} | spread(key, lambda node: (life.owner for life in live.into(node)))
    if is_address:
        addresses = [key]
    else:
        down = spread(key, lambda name: (life.target for life in live.out_of(name)))
        names |= {key} | {node for node in down if address_text(node) is None}
        resolved = addresses_below(live, key, RESOLVING)
        addresses = resolved + [one for one in addresses_below(live, key, None) if one not in resolved]
    queries = [name for name in chain_of(live, root, key) if name in names]
    queries += live.newest_first(names - set(queries))
    if is_address:
        queries += [name for name in pointed if name not in queries]
    return {"ip_addresses": addresses, "dns_queries": queries, "dns_root": root}
