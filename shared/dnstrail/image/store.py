"""What is kept, and what goes: every relation that answers brought, within bounds (DESIGN 5.4 and 5.6)."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque

import msgspec

from dnstrail.image.answer import Answer
from dnstrail.image.deadlines import Deadlines, Due
from dnstrail.image.edges import Edges
from dnstrail.image.relation import Edge, Kind, Relation, Root, Sighting

_RELATIONS, _RELATIONS_A_ROOT = 1 << 17, 26


class Bounds(msgspec.Struct, frozen=True):
    """How much the image holds, and for how long.

    `size`: query roots. `owned`: relations of one owner. `relations`: in all, each counted once for every root that it
    remembers; 0 stands for what fits `size`. `sightings`: how many are held one by one, for lookups in the past.
    `nodes`: in one answer. `grace` and `history`: seconds past a TTL, and past expiry.
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
        """The bound on relations in all."""
        return self.relations or max(_RELATIONS, _RELATIONS_A_ROOT * self.size)


class Store:
    """The relations and the roots that hold a place.

    `forgotten` is the latest expiry of anything that is no longer remembered. `held` is what `Bounds.relations`
    bounds. `counters` counts what had to go early.
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
        """Add what one answer to the question `name` states; `now` is the greatest stamp so far."""
        self._messages += 1
        placed = self.roots.get(name)
        if placed and self._has_ended(placed, now):
            self._release(placed)  # as a sweep would have: what it was told before is history
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
        """A root was looked up: the others go before it."""
        if name in self.roots:
            self.roots.move_to_end(name)

    def sweep(self, now: float, steps: int) -> None:
        """Let go of what ended by `now`, at most `steps` relations and roots; never visible but through history."""
        for _ in range(steps):
            relation = self._sweeping.pop(now)
            if relation is None:
                break
            self._remove(relation)
        self._release_ended(now, steps)
        self._fold(now, steps)

    def _sight(self, edge: Edge, sighting: Sighting) -> None:
        """Add a sighting to its relation, in a new life if it lies at or past the end of the old one."""
        relation = self._table(edge.kind).find_or_add(edge)
        new = not relation.count
        if not new and sighting.stamp >= relation.ends + self.bounds.grace:
            self._forget(relation)
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
        """Past `size`, the roots that ended go, then the root least recently answered or looked up."""
        self._release_ended(now, len(self.roots))
        while len(self.roots) > self.bounds.size:
            _, root = self.roots.popitem(last=False)
            self.counters["evicted_roots"] += 1
            for relation in root.relations:
                self.held -= relation.forget(root)
                if not self._is_held(relation):
                    self._remove(relation)
            root.forget()

    def _thin_out(self, owner: str) -> None:
        """Of an owner with too many relations the first to expire go."""
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
        roots = [brought.root for brought in relation.roots.values()]
        self._remove(relation)
        for root in roots:
            if not any(other.ends >= relation.ends for other in root.relations):
                self._ending.add(root)  # it ends earlier now

    def _is_held(self, relation: Relation) -> bool:
        """Whether a root that holds a place brought a relation."""
        return any(self.roots.get(name) is brought.root for name, brought in relation.roots.items())

    def _release_ended(self, now: float, steps: int) -> None:
        """Free the places of roots whose relations have all expired; the relations stay for the history."""
        for _ in range(steps):
            root = self._ending.pop(now)
            if root is None:
                return
            self._release(root)

    def _release(self, root: Root) -> None:
        del self.roots[root.name]
        for relation in root.relations:  # a late packet may have revived one: its roots are bounded all the same
            if len(relation.roots) > self.bounds.size:
                self.held -= relation.forget(root)

    def _has_ended(self, root: Root, now: float) -> bool:
        return all(relation.ends + self.bounds.grace <= now for relation in root.relations)

    def _fold(self, now: float, steps: int) -> None:
        """Hold sightings one by one no longer than the history, and not more than there is room for."""
        excess = len(self._sighted) - self.bounds.sightings
        while self._sighted:
            sightings = self._sighted[0].sightings
            if sightings and excess <= 0 and (steps <= 0 or now - sightings[0].noted <= self.bounds.history):
                return
            self._sighted.popleft().fold()
            excess, steps = excess - 1, steps - 1

    def _remove(self, relation: Relation) -> None:
        self._forget(relation)
        self._detach(relation)
        self._table(relation.kind).remove(relation)
        if relation.owner in self._crowded and relation.owner not in self._table(relation.kind).out:
            del self._crowded[relation.owner]
        relation.forget_all()
        self.relations -= 1

    def _detach(self, relation: Relation, keep: Root | None = None) -> None:
        """Take a relation from its roots; a root without any has nothing left to hold a place for."""
        self.held -= len(relation.roots)
        for name, brought in relation.roots.items():
            brought.root.relations.pop(relation, None)
            if not brought.root.relations and brought.root is not keep and self.roots.get(name) is brought.root:
                del self.roots[name]

    def _forget(self, relation: Relation) -> None:
        self.forgotten = max(self.forgotten, relation.ends + self.bounds.grace)

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
