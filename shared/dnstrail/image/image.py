"""The image: relations and the roots that brought them, applied message by message: DESIGN 5.4 and 5.6."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from dnstrail.admission import Admission, conflicts
from dnstrail.errors import BadMessage
from dnstrail.events import Flow
from dnstrail.image.deadlines import Deadlines
from dnstrail.image.lookup import Found, lookup
from dnstrail.image.relate import refusal, relate
from dnstrail.image.relation import Edge, Kind, Relation
from dnstrail.image.trail import Trail, trails
from dnstrail.image.view import View
from dnstrail.names import lookup_key
from dnstrail.wire import decode


class Bounds(msgspec.Struct, frozen=True):
    """How much the image holds (roots, nodes in one answer) and how long (seconds past a TTL, past expiry)."""

    size: int = 5000
    grace: float = 60.0
    history: float = 300.0
    nodes: int = 4096


class Applied(NamedTuple):
    """What became of a message: whether it was admitted, and whether it is at odds with an earlier answer.

    `conflict`: a second answer to one query that shares no target with the first.
    """

    admitted: bool = False
    conflict: bool = False


@dataclass(slots=True, eq=False)
class Root:
    """A question that holds a place, and the relations that its answers brought."""

    name: str
    relations: dict[Relation, None] = field(default_factory=dict)


@dataclass(slots=True)
class Edges:
    """Relations by their owner and by their target."""

    out: dict[str, dict[tuple[Kind, str], Relation]] = field(default_factory=dict)
    into: dict[str, dict[Relation, None]] = field(default_factory=dict)

    def find_or_add(self, edge: Edge) -> Relation:
        """The relation of an edge; a new one has seen nothing yet."""
        owned = self.out.setdefault(edge.owner, {})
        relation = owned.get((edge.kind, edge.target))
        if relation is None:
            relation = owned[edge.kind, edge.target] = Relation(edge.owner, edge.kind, edge.target)
            self.into.setdefault(edge.target, {})[relation] = None
        return relation

    def remove(self, relation: Relation) -> None:
        """Take a relation out."""
        owned, reaching = self.out[relation.owner], self.into[relation.target]
        del owned[relation.kind, relation.target]
        del reaching[relation]
        if not owned:
            del self.out[relation.owner]
        if not reaching:
            del self.into[relation.target]


class Image:
    """All relations that answers brought. Plain data: stamps come with the messages, nothing is read or sent.

    `latest` is the greatest stamp so far, the clock of a file. `forgotten` is the latest expiry of anything that is
    no longer remembered. `counters` counts messages and records by what became of them.
    """

    def __init__(self, bounds: Bounds | None = None, admission: Admission | None = None) -> None:
        self.bounds = bounds or Bounds()
        self.admission = Admission("accept") if admission is None else admission  # an empty one is false
        self.forward = Edges()
        self.pointers = Edges()
        self.latest = float("-inf")
        self.forgotten = float("-inf")
        self.relations = 0
        self.counters: Counter[str] = Counter()
        self._messages = 0
        self._roots: OrderedDict[str, Root] = OrderedDict()
        self._ending: Deadlines[Root] = Deadlines(self._ends)
        self._sweeping: Deadlines[Relation] = Deadlines(self._swept_at)

    def __len__(self) -> int:
        return len(self._roots)

    def feed(self, stamp: float, payload: bytes, flow: Flow | None = None, *, live: bool = False) -> Applied:
        """Apply one DNS message as it was on the wire; whatever it holds is applied or counted, never raised.

        What became of it: nothing of a message that does not count.
        """
        self.latest = max(self.latest, stamp)
        self.counters["messages"] += 1
        try:
            message = decode(payload)
        except BadMessage:
            self.counters["bad_message"] += 1
            return Applied()
        if reason := refusal(message):
            self.counters[reason] += 1
            if reason == "query":
                self.admission.asked(stamp, payload, flow)
            return Applied()
        if message.skipped:
            self.counters["bad_record"] += message.skipped
        if message.damaged:
            self.counters["cut_short"] += 1
        root, edges = relate(message, self.counters)
        verdict = self.admission.answered(stamp, message, flow, live=live)
        conflict = conflicts(verdict, frozenset(edge.target for edge in edges))
        if conflict:
            self.counters["answer_conflict"] += 1
        if not verdict.admitted:
            self.counters["not_admitted"] += 1
            return Applied(conflict=conflict)
        self.counters["related" if edges else "unrelated"] += 1
        if edges:
            self._apply(stamp, root, edges)
        self.sweep(self.latest, 2 * len(edges) + 2)
        return Applied(admitted=True, conflict=conflict)

    def get(
        self, key: str, *, now: float | None = None, at: float | None = None, nodes: int | None = None
    ) -> Found | None:
        """Look a name or an address up: as of `now` (default: the greatest stamp), or as of the past time `at`.

        A lookup without `at` touches its root. `nodes` lowers the bound on nodes in one answer.
        """
        node = lookup_key(key)
        limit = min(self.bounds.nodes, nodes or self.bounds.nodes)
        found = lookup(self.view(now=now, at=at), node, limit) if node else None
        if found and at is None and found.dns_root in self._roots:
            self._roots.move_to_end(found.dns_root)
        return found

    def trails(self, key: str, *, now: float | None = None, at: float | None = None) -> list[Trail]:
        """The ways from questions to a key, likeliest first; [] if nothing live touches the key."""
        node = lookup_key(key)
        return trails(self.view(now=now, at=at), node, self.bounds.nodes) if node else []

    def view(self, *, now: float | None = None, at: float | None = None) -> View:
        """The live relations as of `now` or `at`."""
        when = self.latest if now is None else now
        seen_by = float("inf") if at is None else at
        return View(self.forward, self.pointers, when if at is None else at, self.bounds.grace, seen_by)

    def remembers(self, at: float) -> bool:
        """Whether everything that was live at `at` is still remembered."""
        return at >= self.forgotten

    def sweep(self, now: float, steps: int) -> None:
        """Let go of what ended by `now`, at most `steps` relations and roots; never visible but through history."""
        for _ in range(steps):
            relation = self._sweeping.pop(now)
            if relation is None:
                break
            self._remove(relation)
        self._release_ended(now, steps)

    def _apply(self, stamp: float, name: str, edges: list[Edge]) -> None:
        self._messages += 1
        root = self._roots.get(name)
        placed = root is not None
        root = root or Root(name)
        for place, edge in enumerate(edges):
            self._sight(edge, stamp, root, (self._messages, place))
        self._roots[name] = root
        self._roots.move_to_end(name)
        if not placed:
            self._ending.add(root)
            self._make_room()

    def _sight(self, edge: Edge, stamp: float, root: Root, order: tuple[int, int]) -> None:
        """Add a sighting to its relation, in a new life if it lies at or past the end of the old one."""
        relation = (self.pointers if edge.kind == Kind.PTR else self.forward).find_or_add(edge)
        new = not relation.count
        if not new and stamp >= relation.ends + self.bounds.grace:
            self._forget(relation)
            self._detach(relation, keep=root)
            relation.begin()
        relation.see(root.name, stamp, edge.ttl, order)
        root.relations[relation] = None
        if new:
            self.relations += 1
            self._sweeping.add(relation)

    def _make_room(self) -> None:
        if len(self._roots) <= self.bounds.size:
            return
        self._release_ended(self.latest, len(self._roots))
        while len(self._roots) > self.bounds.size:
            _, root = self._roots.popitem(last=False)
            self.counters["evicted_roots"] += 1
            for relation in root.relations:
                relation.roots.pop(root.name, None)
                if not self._is_held(relation):
                    self._remove(relation)

    def _is_held(self, relation: Relation) -> bool:
        """Whether a root that holds a place brought a relation."""
        roots = (self._roots.get(name) for name in relation.roots)
        return any(relation in root.relations for root in roots if root)

    def _release_ended(self, now: float, steps: int) -> None:
        """Free the places of roots whose relations have all expired; the relations stay for the history."""
        for _ in range(steps):
            root = self._ending.pop(now)
            if root is None:
                return
            del self._roots[root.name]
            for relation in root.relations:  # a late packet may have revived one: its roots are bounded all the same
                if len(relation.roots) > self.bounds.size:
                    relation.roots.pop(root.name, None)

    def _remove(self, relation: Relation) -> None:
        self._forget(relation)
        self._detach(relation)
        (self.pointers if relation.kind == Kind.PTR else self.forward).remove(relation)
        relation.kept = False
        self.relations -= 1

    def _detach(self, relation: Relation, keep: Root | None = None) -> None:
        """Take a relation from its roots; a root without any has nothing left to hold a place for."""
        for name in relation.roots:
            root = self._roots.get(name)
            if root is None:
                continue
            root.relations.pop(relation, None)
            if not root.relations and root is not keep:
                del self._roots[name]

    def _forget(self, relation: Relation) -> None:
        self.forgotten = max(self.forgotten, relation.ends + self.bounds.grace)

    def _ends(self, root: Root) -> float | None:
        if self._roots.get(root.name) is not root:
            return None
        return max(relation.ends for relation in root.relations) + self.bounds.grace

    def _swept_at(self, relation: Relation) -> float | None:
        return relation.ends + self.bounds.grace + self.bounds.history if relation.kept else None
