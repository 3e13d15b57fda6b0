"""The relations and roots that the image holds, within its bounds (docs/limits.md)."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque

import msgspec

from dnstrail.image.answer import Answer
from dnstrail.image.deadlines import Deadlines, Due
from dnstrail.image.edges import Edges
from dnstrail.image.relation import Edge, Kind, Relation, Root, Sighting

_RELATIONS, _RELATIONS_A_ROOT = 1 << 17, 26


class Bounds(msgspec.Struct, frozen=True):
    """The bounds of the image.

    `size` bounds the query roots, `owned` the relations of one owner, and `nodes` the nodes of one lookup. `relations`
    bounds all relations, each counted once for every root; 0 selects a bound that fits `size`. `sightings` bounds the
    sightings that are held one by one for lookups with `at`. A relation is live for `grace` seconds past its TTL, and
    held for `history` seconds after that.
    """

    size: int = 5000
    grace: float = 60.0
    history: float = 300.0
    nodes: int = 4096
    owned: int = 4096
    relations: int = 0
    sightings: int = 1 << 17

    @property
    def most_relations(self) -> int:
        """Return the bound on all relations."""
        return self.relations or max(_RELATIONS, _RELATIONS_A_ROOT * self.size)


class Store:
    """The relations, and the roots that hold a place.

    Every root in `roots` has at least one relation. `held` is the number that `Bounds.relations` bounds: the sum over
    all relations of their roots. `forgotten` is the latest end of anything that is no longer held. `counters` counts
    evictions.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.forward = Edges()
        self.pointers = Edges()
        self.roots: OrderedDict[str, Root] = OrderedDict()
        self.forgotten = float("-inf")
        self.relations = 0
        self.held = 0
        self.counters: Counter[str] = Counter()
        self._messages = 0
        self._ending: Deadlines[Root] = Deadlines(self._ends)
        self._sweeping: Deadlines[Relation] = Deadlines(self._swept_at)
        self._crowded: dict[str, Deadlines[Relation]] = {}
        self._sighted: deque[Relation] = deque()

    def apply(self, now: float, name: str, edges: list[Edge], answer: Answer) -> None:
        """Add the relations of one answer to the question `name`; `now` is the greatest stamp so far."""
        self._messages += 1
        placed = self.roots.get(name)
        if placed and self._has_ended(placed, now):
            self._release(placed)  # as a sweep does: its earlier answers are history
            placed = None
        root = placed or Root(name)
        for place, edge in enumerate(edges):
            self._sight(edge, Sighting(answer.noted, answer.stamp, edge.ttl, root, (self._messages, place)))
        root.remember(answer)
        self.roots[name] = root
        self.roots.move_to_end(name)
        if not placed:
            self._ending.add(root)
        if len(self.roots) > self.bounds.size:
            self._make_room(now)
        for owner in {edge.owner for edge in edges}:
            self._thin_out(owner)
        while self.held > self.bounds.most_relations:
            self._drop(self._sweeping.pop(), "evicted_relations")

    def touch(self, name: str) -> None:
        """Note that a lookup used a root: the others are evicted before it."""
        if name in self.roots:
            self.roots.move_to_end(name)

    def sweep(self, now: float, steps: int) -> None:
        """Remove at most `steps` relations and roots that ended by `now`. It shows in nothing but `history`."""
        for _ in range(steps):
            relation = self._sweeping.pop(now)
            if relation is None:
                break
            self._remove(relation)
        self._release_ended(now, steps)
        self._fold(now, steps)

    def _sight(self, edge: Edge, sighting: Sighting) -> None:
        """Add a sighting to its relation; at or past the end of the old life it starts a new one."""
        relation = self._table(edge.kind).find_or_add(edge)
        new = not relation.count
        if not new and sighting.stamp >= relation.ends + self.bounds.grace:
            self._forget(relation.ends)
            self._detach(relation, keep=sighting.root)
            relation.begin(restarted=sighting.noted)
        held = len(relation.roots)
        relation.see(sighting)
        self.held += len(relation.roots) - held
        if relation.count > 1:
            self._sighted.append(relation)
        sighting.root.relations[relation] = None
        if new:
            self.relations += 1
            self._sweeping.add(relation)
            if edge.owner in self._crowded:
                self._crowded[edge.owner].add(relation)

    def _make_room(self, now: float) -> None:
        """Beyond `size` release ended roots, then evict the root least recently answered or looked up."""
        self._release_ended(now, len(self.roots))
        while len(self.roots) > self.bounds.size:
            _, root = self.roots.popitem(last=False)
            self.counters["evicted_roots"] += 1
            for relation in root.relations:
                self._forget_root(relation, root)
                if not self._is_held(relation):
                    self._remove(relation)
            root.forget()

    def _thin_out(self, owner: str) -> None:
        """Beyond `owned` evict the relations of an owner, the first to expire first."""
        for edges in (self.forward, self.pointers):
            owned = edges.out.get(owner, {})
            while len(owned) > self.bounds.owned:
                if owner not in self._crowded:
                    crowd = self._crowded[owner] = Deadlines(self._swept_at)
                    for relation in owned.values():
                        crowd.add(relation)
                self._drop(self._crowded[owner].pop(), "evicted_owned")

    def _drop(self, relation: Relation | None, counter: str) -> None:
        if relation is None:
            return
        self.counters[counter] += 1
        roots = [seen.root for seen in relation.roots.values()]
        self._remove(relation)
        for root in roots:
            if not any(other.ends >= relation.ends for other in root.relations):
                self._ending.add(root)  # the root ends earlier now

    def _is_held(self, relation: Relation) -> bool:
        """Return whether a root that holds a place stated a relation."""
        return any(self.roots.get(name) is seen.root for name, seen in relation.roots.items())

    def _release_ended(self, now: float, steps: int) -> None:
        """Release the roots whose relations have all expired; the relations stay for the history."""
        for _ in range(steps):
            root = self._ending.pop(now)
            if root is None:
                return
            self._release(root)

    def _release(self, root: Root) -> None:
        del self.roots[root.name]
        for relation in root.relations:  # a late packet may have revived one: bound its roots, too
            if len(relation.roots) > self.bounds.size:
                self._forget_root(relation, root)

    def _has_ended(self, root: Root, now: float) -> bool:
        grace = self.bounds.grace
        for relation in root.relations:  # noqa: SIM110 - runs for every answer, and a generator costs more than the test
            if relation.ends + grace > now:
                return False
        return True

    def _fold(self, now: float, steps: int) -> None:
        """Fold sightings that are older than the history, or beyond the bound on sightings."""
        excess = len(self._sighted) - self.bounds.sightings
        while self._sighted:
            sightings = self._sighted[0].sightings
            if sightings and excess <= 0 and (steps <= 0 or now - sightings[0].noted <= self.bounds.history):
                return
            self._sighted.popleft().fold()
            excess, steps = excess - 1, steps - 1

    def _remove(self, relation: Relation) -> None:
        self._forget(relation.ends)
        self._detach(relation)
        self._table(relation.kind).remove(relation)
        if relation.owner in self._crowded and relation.owner not in self._table(relation.kind).out:
            del self._crowded[relation.owner]
        relation.forget_all()
        self.relations -= 1

    def _detach(self, relation: Relation, keep: Root | None = None) -> None:
        """Remove a relation from its roots; a root without relations loses its place."""
        self.held -= len(relation.roots)
        for name, seen in relation.roots.items():
            seen.root.relations.pop(relation, None)
            if not seen.root.relations and seen.root is not keep and self.roots.get(name) is seen.root:
                del self.roots[name]

    def _forget_root(self, relation: Relation, root: Root) -> None:
        """Drop a root of a relation that other roots may keep: the past is complete once its answers have ended."""
        seen = relation.forget(root)
        if seen:
            self.held -= 1
            self._forget(seen.ends)

    def _forget(self, ends: float) -> None:
        self.forgotten = max(self.forgotten, ends + self.bounds.grace)

    def _table(self, kind: Kind) -> Edges:
        return self.pointers if kind == Kind.PTR else self.forward

    def _ends(self, root: Root) -> Due | None:
        if self.roots.get(root.name) is not root:
            return None
        return (max(relation.ends for relation in root.relations) + self.bounds.grace,)

    def _swept_at(self, relation: Relation) -> Due | None:
        if not relation.kept:
            return None
        return relation.ends + (self.bounds.grace + self.bounds.history), *relation.order  # summed as a view sums them
