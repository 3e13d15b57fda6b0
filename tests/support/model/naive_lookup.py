"""Lookups over the relations that are live at one instant (docs/inside/image.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

from model.naive_answers import Answer
from model.naive_relate import Relation
from model.naive_wire import address_text

PTR = "PTR"
RESOLVING = ("A", "AAAA", "CNAME", "SVCB", "HTTPS")  # the kinds that lead to the addresses of a name itself
Rank = tuple[bool, int]  # of an answer
LAST: Rank = (False, -1)


class LiveRelation:
    """A relation, and the answers by which it is live."""

    def __init__(self, relation: Relation) -> None:
        self.owner, self.kind, self.target = relation
        self.answers: list[Answer] = []
        self.rank = LAST

    def add(self, answer: Answer) -> None:
        """Add one answer."""
        self.answers.append(answer)
        self.rank = max(self.rank, answer.rank)


class Live:
    """The live relations at one instant, indexed by both ends; `stated` are all answers that may give their order."""

    def __init__(self, answers: Iterable[Answer], instant: int, grace: int, stated: Iterable[Answer] = ()) -> None:
        self.stated = stated
        self.pointers: dict[str, list[LiveRelation]] = {}
        self.touching: dict[str, list[LiveRelation]] = {}
        found: dict[Relation, LiveRelation] = {}
        for answer in answers:
            for relation, end in answer.ends.items():
                if instant < end + grace:
                    if relation not in found:
                        found[relation] = LiveRelation(relation)
                    found[relation].add(answer)
        for life in found.values():
            index = self.pointers if life.kind == PTR else self.touching
            for node in {life.owner, life.target}:
                index.setdefault(node, []).append(life)

    def out_of(self, name: str) -> list[LiveRelation]:
        """Return the live forward relations that a name owns."""
        return [life for life in self.touching.get(name, []) if life.owner == name]

    def into(self, node: str) -> list[LiveRelation]:
        """Return the live forward relations whose target is a node."""
        return [life for life in self.touching.get(node, []) if life.target == node]

    def up(self, key: str) -> set[str]:
        """Return every name from which forward relations reach the key; the key itself only by a loop."""
        return spread(key, lambda node: (life.owner for life in self.into(node)))

    def down(self, key: str) -> set[str]:
        """Return everything that forward relations reach from the key; the key itself only by a loop."""
        return spread(key, lambda name: (life.target for life in self.out_of(name)))


def walked(live: Live, key: str) -> list[LiveRelation]:
    """Return every live relation that a lookup of a key meets."""
    above = [life for node in {key} | live.up(key) for life in live.into(node)]
    below = [life for name in {key} | live.down(key) for life in live.out_of(name)]
    return above + below + live.pointers.get(key, [])


def spread(start: str, steps: Callable[[str], Iterable[str]]) -> set[str]:
    """Return all nodes that one or more steps reach."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for node in steps(waiting.pop()):
            if node not in found:
                found.add(node)
                waiting.append(node)
    return found


def newest_first(ranks: dict[str, Rank]) -> list[str]:
    """Return the names by rank, ties by name."""
    return sorted(ranks, key=lambda name: (*(-part for part in ranks[name]), name))


def roots_of(live: Live, key: str) -> list[str]:
    """Return the questions that may be the root of a key, the right one first; a forward relation must touch it."""
    touching = {answer for life in live.touching[key] for answer in life.answers}
    own = {answer for life in live.out_of(key) for answer in life.answers if answer.root == key}
    undoubted = [one for one in touching if not one.doubted]
    right = sorted(undoubted or touching, key=lambda one: (one in own, one.number), reverse=True)
    return [answer.root for answer in right]


def chain_of(live: Live, root: str, key: str, ranks: dict[str, Rank], like: Sequence[str]) -> list[str]:
    """Return the nodes of a shortest live chain from root to key, both included; without one only the root.

    Of several equally short chains it is the one that `like` begins with, else the newest.
    """
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
        nearer = [life.target for life in live.out_of(here) if distance.get(life.target) == distance[here] - 1]
        liked = [name for name in like[len(chain) : len(chain) + 1] if name in nearer]
        chain.append(*(liked or newest_first({name: ranks.get(name, LAST) for name in nearer})[:1]))
    return chain


def named_by(live: Live, key: str, *, downwards: bool) -> dict[str, Rank]:
    """Return the names above the key (and below it), each with the best rank of the relations that lead to it."""
    ranks: dict[str, Rank] = {}
    for node in {key} | live.up(key):
        for life in live.into(node):
            ranks[life.owner] = max(life.rank, ranks.get(life.owner, LAST))
    for name in {key} | live.down(key) if downwards else ():
        for life in live.out_of(name):
            if address_text(life.target) is None:
                ranks[life.target] = max(life.rank, ranks.get(life.target, LAST))
    return ranks


def addresses_below(live: Live, key: str, kinds: tuple[str, ...] | None, like: Sequence[str]) -> list[str]:
    """Return the addresses reached from the key by relations of these kinds (None: all), newest first."""

    def usable(name: str) -> list[LiveRelation]:
        return [life for life in live.out_of(name) if kinds is None or life.kind in kinds]

    owners = {key} | spread(key, lambda name: (life.target for life in usable(name)))
    lives = [life for owner in owners for life in usable(owner) if address_text(life.target) is not None]
    return addresses_by_rank(live, [(life.target, life) for life in lives], like)


def addresses_by_rank(live: Live, found: list[tuple[str, LiveRelation]], like: Sequence[str]) -> list[str]:
    """Return addresses by the best rank of their relations; equal ones in the order of `like`, if an answer has it."""
    best: dict[str, tuple[Rank, int, int]] = {}
    for address, life in found:
        answer = max((one for one in life.answers if one.rank == life.rank), key=lambda one: one.number)
        place = list(answer.ends).index((life.owner, life.kind, life.target))
        best[address] = max((life.rank, answer.number, -place), best.get(address, (LAST, 0, 0)))
    ordered: list[str] = []
    for rank in sorted({rank for rank, _, _ in best.values()}, reverse=True):
        tied = sorted((one for one in best if best[one][0] == rank), key=lambda one: (best[one][1], -best[one][2]))
        liked = [one for one in like if one in tied]
        right = len(liked) == len(tied) and liked != tied and in_an_order_of_answers(live, liked, tied)
        ordered += liked if right else tied
    return ordered


def in_an_order_of_answers(live: Live, addresses: list[str], usual: list[str]) -> bool:
    """Return whether each two neighbours are in the usual order, or in that of some answers, or no answer has both."""
    for first, second in pairwise(addresses):
        if usual.index(first) < usual.index(second):
            continue
        targets = [[target for _, _, target in answer.ends] for answer in live.stated]
        earliest = min(names.index(first) for names in targets if first in names)
        latest = max(place for names in targets for place, name in enumerate(names) if name == second)
        if earliest > latest and any({first, second} <= set(names) for names in targets):
            return False
    return True


def answer(live: Live, key: str, root: str = "", like: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """Return the lists and the root of one lookup, without the state; None if nothing live touches the key.

    Where several orders are right the result has the order of `like`. `root` replaces the right root.
    """
    names_like, addresses_like = (like["dns_queries"], like["ip_addresses"]) if like else ((), ())
    is_address = address_text(key) is not None
    if key not in live.touching:
        return pointed_at(live, key, addresses_like)
    root = root or roots_of(live, key)[0]
    ranks = named_by(live, key, downwards=not is_address)
    chain = chain_of(live, root, key, ranks, names_like)
    if is_address:
        addresses = [key]
        others = [name for name in newest_first(ranks) if name not in chain]
        chain = [name for name in chain if name != key]
    else:
        resolved = addresses_below(live, key, RESOLVING, addresses_like)
        behind = addresses_below(live, key, None, addresses_like)
        addresses = resolved + [one for one in behind if one not in resolved]
        others = [name for name in newest_first(ranks) if name not in {key, *chain}]
        if key not in chain:  # nothing puts the key itself into the result: its place is free
            place = names_like.index(key) - len(chain) if key in names_like[len(chain) :] else 0
            others.insert(place, key)
    queries = chain + others
    if is_address:
        pointed = pointed_at(live, key, ())
        queries += [name for name in (pointed["dns_queries"] if pointed else []) if name not in queries]
    return {"ip_addresses": addresses, "dns_queries": queries, "dns_root": root}


def pointed_at(live: Live, key: str, like: Sequence[str]) -> dict[str, Any] | None:
    """Return the result of PTR relations alone."""
    pointing = live.pointers.get(key, [])
    if not pointing:
        return None
    if address_text(key) is not None:
        addresses, queries = [key], newest_first({life.target: life.rank for life in pointing})
    else:
        addresses = addresses_by_rank(live, [(life.owner, life) for life in pointing], like)
        queries = [key]
    return {"ip_addresses": addresses, "dns_queries": queries, "dns_root": ""}


def pointer_roots(live: Live, key: str) -> list[str]:
    """Return the roots of the PTR answers of a key, the one with the best rank and last arrival first."""
    answers = [answer for life in live.pointers.get(key, []) for answer in life.answers]
    return [one.root for one in sorted(answers, key=lambda one: (one.rank, one.number), reverse=True)]
