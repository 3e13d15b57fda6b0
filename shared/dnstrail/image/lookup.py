"""The lookup: which names lead to a key, and which addresses it leads to (docs/lookups.md)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

from dnstrail.dns.names import address_text
from dnstrail.image.answer import Edge
from dnstrail.image.graph import newest_first
from dnstrail.image.kind import FAR
from dnstrail.image.record import Record, Root
from dnstrail.image.view import NEVER, View


class LookupResult(msgspec.Struct, frozen=True):
    """The result of a lookup; it contains only names and addresses that live relations connect with the key.

    `truncated` states that a bound left some out. `history` is False if the lookup is for a past time that the image
    does not remember wholly.
    """

    ip_addresses: list[str]
    dns_queries: list[str]
    dns_root: str
    state: str = "live"
    truncated: bool = False
    history: bool = True

    @property
    def fields(self) -> dict[str, Any]:
        """Return the fields of a reply."""
        return msgspec.structs.asdict(self)


_LEAST: Final = 64  # records that each lookup may read for its origin, whatever other lookups of its request have read


class Origin(NamedTuple):
    """The question that led to a key, and the root whose answer found it."""

    question: str
    root: Root


class Up:
    """The names that lead to a key. `nearer` maps each name to the next node on its way, nearest names first.

    `freshness` contains for each name the last stamp of the live relations that lead from it towards the key. `cut`
    states that a bound ended the walk.
    """

    __slots__ = ("cut", "freshness", "nearer")

    def __init__(self, view: View, key: str, nodes: int) -> None:
        self.nearer = {key: ""}
        self.freshness: dict[str, int] = {}
        self.cut = self._climb(view, [key], nodes)

    def chain(self, name: str) -> list[str]:
        """Return the nodes from a name to the key, both included; [] from a name that does not lead there."""
        nodes = []
        while name in self.nearer:
            nodes.append(name)
            name = self.nearer[name]
        return nodes

    def _climb(self, view: View, pending: list[str], nodes: int) -> bool:
        nearer, freshness = self.nearer, self.freshness
        for node in pending:  # the list grows during the loop: breadth first
            for record, place, fresh in _relations(view, node, into=True):
                owner = record.edges[place][0]
                if owner not in nearer:
                    if len(nearer) > nodes:
                        return True
                    nearer[owner] = node
                    pending.append(owner)
                if fresh > freshness.get(owner, NEVER):
                    freshness[owner] = fresh
        return view.budget < 0


Rank = tuple[int, int, int]  # of an address: its freshness (negative), the number of the answer, its place there


class Down:
    """The names and addresses to which a name leads. `near` and `far` contain the addresses with their freshness.

    Alias, address and service-binding relations lead to near addresses, MX and SRV relations to far ones. `names`
    contains the freshness of the relations that lead to each name. `cut` states that a bound ended the walk.
    """

    __slots__ = ("cut", "far", "names", "near")

    def __init__(self, view: View, key: str, nodes: int) -> None:
        self.near: dict[str, Rank] = {}
        self.far: dict[str, Rank] = {}
        self.names: dict[str, int] = {}
        seen = {key}
        services: list[str] = []
        self.cut = self._descend(view, [key], seen, services, self.near, nodes)
        if services and not self.cut:
            pending = [name for name in dict.fromkeys(services) if name not in seen]
            seen.update(pending)
            self.cut = self._descend(view, pending, seen, None, self.far, nodes)
            self.far = {address: rank for address, rank in self.far.items() if address not in self.near}

    def addresses(self) -> list[str]:
        """Return the addresses, near ones first; each group newest first, ties in the order of an answer."""
        return [*sorted(self.near, key=self.near.__getitem__), *sorted(self.far, key=self.far.__getitem__)]

    def _descend(
        self,
        view: View,
        pending: list[str],
        seen: set[str],
        services: list[str] | None,
        addresses: dict[str, Rank],
        nodes: int,
    ) -> bool:
        """Walk from the pending names. If `services` is a list, add the targets of MX and SRV to it instead."""
        for node in pending:  # the list grows during the loop: breadth first
            for record, place, fresh in _relations(view, node, into=False):
                _, kind, target = record.edges[place]
                if self._note(kind, target, (-fresh, view.number(record, place, fresh), place), addresses, nodes):
                    return True
                if target in self.names and services is not None and kind in FAR:
                    services.append(target)
                elif target in self.names and target not in seen:
                    seen.add(target)
                    pending.append(target)
        return view.budget < 0

    def _note(self, kind: int, target: str, rank: Rank, addresses: dict[str, Rank], nodes: int) -> bool:
        """Note the target of a relation by its freshness; return True if the bound on nodes leaves it out."""
        if kind in _ADDRESSES or (kind in _BINDINGS and address_text(target) is not None):
            known = addresses.get(target)
            if known is None and self.size() >= nodes:
                return True
            if known is None or rank < known:
                addresses[target] = rank
            return False
        known_name = self.names.get(target)
        if known_name is None and self.size() >= nodes:
            return True
        if known_name is None or -rank[0] > known_name:
            self.names[target] = -rank[0]
        return False

    def size(self) -> int:
        """Return the number of names and addresses."""
        return len(self.near) + len(self.far) + len(self.names)


_ADDRESSES, _BINDINGS = frozenset({1, 28}), frozenset({64, 65})  # A and AAAA; SVCB and HTTPS


def _relations(view: View, node: str, *, into: bool) -> Iterator[tuple[Record, int, int]]:
    """Yield the live forward relations into a node, or out of it: record, place and freshness.

    A relation that several answers state comes from the latest ones. The budget of the view bounds how many are read;
    it is negative if that bound left some out.
    """
    end = 2 if into else 0
    read: dict[Edge, int] = {}
    for record in newest_first(view.graph.into if into else view.graph.out, node):
        latest = view.latest(record)
        for place in record.leading_to(node) if into else record.owned_by(node):
            edge = record.edges[place]
            if edge[end] != node:
                continue
            view.budget -= 1
            if view.budget < 0:
                return
            if read.get(edge, NEVER) > latest:
                continue
            fresh = view.freshness(record, place)
            if fresh != NEVER:
                read[edge] = fresh
                yield record, place, fresh


def look_up(view: View, roots: dict[str, Root], key: str, nodes: int) -> tuple[LookupResult, Root] | None:
    """Look up a key in canonical form, and return the result with the root by whose answer it was found.

    Return None if nothing live touches the key.
    """
    is_address = address_text(key) is not None
    origin = find_origin(view, roots, key, is_address=is_address)
    if origin is None:
        return _by_pointers(view, key, nodes, is_address=is_address)
    question, root = origin
    down = None if is_address else Down(view, key, nodes)
    up = Up(view, key, nodes if down is None else nodes - down.size())
    cut = up.cut or (down is not None and down.cut)
    if down is None:
        addresses = [key]
        queries = _in_order(question, up.chain(question)[:-1], up.freshness)
        pointers, cut_short = _pointer_names(view, key, nodes - len(queries))
        queries += [name for name in pointers if name not in up.freshness and name != question]
        cut = cut or cut_short
    else:
        addresses, names = down.addresses(), up.freshness
        for name, fresh in down.names.items():
            if fresh > names.get(name, NEVER):
                names[name] = fresh
        queries = _in_order(question, [*up.chain(question), key], names)
    state = _state(view, roots, key, bool(addresses), nodes, is_address=is_address)
    return LookupResult(addresses, queries, question, state, cut, view.exact), root


def find_origin(view: View, roots: dict[str, Root], key: str, *, is_address: bool) -> Origin | None:
    """Return the origin of a key: the key itself, else the question of the answer that arrived last.

    The key itself counts if it was asked, and one of its relations is live by an answer to that. Else the answers count
    by which a forward relation that touches the key is live. A doubted answer comes after all others. Return None if
    there is no such answer.
    """
    own = None if is_address else roots.get(key)
    doubted: Origin | None = None
    if own is not None:
        for record in own.records():
            if _owns(view, record, key):
                if not record.doubted:
                    return Origin(key, own)
                doubted = Origin(key, own)
    last = _last_touching(view, key, is_address=is_address, doubted=False)
    if last is None:
        last = doubted or _last_touching(view, key, is_address=is_address, doubted=True)
    return last


def _owns(view: View, record: Record, key: str) -> bool:
    for place in record.owned_by(key):  # noqa: SIM110 - runs for every lookup, and a generator costs more than the test
        if record.edges[place][0] == key and view.live(record, place) is not None:
            return True
    return False


def _last_touching(view: View, key: str, *, is_address: bool, doubted: bool) -> Origin | None:
    """Return the question of the last arrived answer with a live forward relation that touches the key."""
    best, found = -1, None
    read = 0
    for index in (view.graph.into,) if is_address else (view.graph.into, view.graph.out):
        for record in newest_first(index, key):
            if record.youngest.number <= best or (read > _LEAST and view.budget < 0):
                break  # all others have smaller numbers
            if record.doubted != doubted:
                continue
            read += 1
            view.budget -= 1
            number = _last_number(view, record, key)
            if number > best:
                best, found = number, Origin(record.root.name, record.root)
    return found


def _last_number(view: View, record: Record, key: str) -> int:
    """Return the number of the last answer by which a relation of the key is live; -1 if there is none."""
    best = -1
    for places in (record.leading_to(key), record.owned_by(key)):
        for place in places:
            owner, _, target = record.edges[place]
            if key in (owner, target):
                seen = view.live(record, place)
                if seen is not None and seen.number > best:
                    best = seen.number
    return best


def _in_order(question: str, chain: list[str], names: dict[str, int]) -> list[str]:
    """Return the question, the chain from it to the key, then the other names, newest first."""
    head = dict.fromkeys([question, *chain])
    rest = [(-fresh, name) for name, fresh in names.items() if name not in head]
    rest.sort()
    return [*head, *(name for _, name in rest)]


def _by_pointers(view: View, key: str, nodes: int, *, is_address: bool) -> tuple[LookupResult, Root] | None:
    """Look up a key by its reverse records, since no live forward relation touches it."""
    found: dict[str, tuple[int, str] | Rank] = {}
    best: tuple[int, int, Root] | None = None
    cut = False
    for record, place, fresh in reverse_records(view, key, is_address=is_address):
        if view.budget < 0 or len(found) >= nodes:
            cut = True
            break
        owner, _, target = record.edges[place]
        number = view.number(record, place, fresh)
        other = target if is_address else owner
        rank = (-fresh, target) if is_address else (-fresh, number, place)
        found[other] = min(rank, found.get(other, rank))
        if best is None or (fresh, number) > best[:2]:
            best = fresh, number, record.root
    if best is None:
        return None
    others = sorted(found, key=found.__getitem__)
    addresses, names = ([key], others) if is_address else (others, [key])
    grace = view.aged and not _points(view.without_grace(), key, is_address=is_address)
    return LookupResult(addresses, names, "", "grace" if grace else "live", cut, view.exact), best[2]


def reverse_records(view: View, key: str, *, is_address: bool) -> Iterator[tuple[Record, int, int]]:
    """Yield the live PTR relations of an address, or to a name: record, place and freshness."""
    for record in newest_first(view.graph.out if is_address else view.graph.pointed, key):
        for place in record.owned_by(key) if is_address else record.leading_to(key):
            owner, _, target = record.edges[place]
            if key != (owner if is_address else target):
                continue
            view.budget -= 1
            fresh = view.freshness(record, place)
            if fresh != NEVER:
                yield record, place, fresh


def _pointer_names(view: View, address: str, nodes: int) -> tuple[list[str], bool]:
    if address not in view.graph.out:
        return [], False
    found = _by_pointers(view, address, nodes, is_address=True)
    return (found[0].dns_queries, found[0].truncated) if found else ([], False)


def _points(view: View, key: str, *, is_address: bool) -> bool:
    return next(reverse_records(view, key, is_address=is_address), None) is not None


def _state(view: View, roots: dict[str, Root], key: str, addresses: bool, nodes: int, *, is_address: bool) -> str:
    """Return "grace" if the lookup without grace would find nothing, or no address where it now finds some."""
    if not view.aged:
        return "live"
    strict = view.without_grace()
    if find_origin(strict, roots, key, is_address=is_address) is None:
        found = _points(strict, key, is_address=is_address)
    elif is_address or not addresses:
        found = True
    else:
        down = Down(strict, key, nodes)
        found = bool(down.near or down.far)
    view.exact = view.exact and strict.exact
    return "live" if found else "grace"
