"""One relation, owner -> target of one kind, with its own life (docs/lookups.md)."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from dnstrail.image.answer import Answer

MAX_ANSWERS = 32  # of one root that are held one by one
_NEVER, _ALWAYS = float("-inf"), float("inf")


class Kind(IntEnum):
    """The kinds of relation; the values are the record types of the DNS."""

    A = 1
    CNAME = 5
    PTR = 12
    MX = 15
    AAAA = 28
    SRV = 33
    SVCB = 64
    HTTPS = 65


# Kinds that lead to the addresses of a name itself. MX and SRV lead to the addresses of other services.
DIRECT = frozenset({Kind.A, Kind.AAAA, Kind.CNAME, Kind.SVCB, Kind.HTTPS})


class Edge(NamedTuple):
    """A relation as one message states it; `ttl` in seconds, after RFC 2181 and our cap."""

    owner: str
    kind: Kind
    target: str
    ttl: int


class Root:
    """A question, the relations that its answers stated, and the newest MAX_ANSWERS of these answers.

    A root holds a place in the image from its first answer until its relations have ended or it is evicted. Afterwards
    relations may still refer to it; a later answer to the same question makes another Root.
    """

    __slots__ = ("answers", "name", "relations")

    def __init__(self, name: str) -> None:
        self.name = name
        self.relations: dict[Relation, None] = {}
        self.answers: list[Answer] = []

    def remember(self, answer: Answer) -> None:
        """Hold an answer; beyond MAX_ANSWERS drop the oldest."""
        self.answers.append(answer)
        if len(self.answers) > MAX_ANSWERS:
            del self.answers[0]

    def forget(self) -> None:
        """Drop everything, so that a deadline that still refers to this root does not keep it in memory."""
        self.relations = {}
        self.answers = []


class RootSighting(NamedTuple):
    """The answers of one root that stated a relation: first and last stamp, numbers of first and last message.

    `ends` is the greatest stamp + TTL that these answers gave.
    """

    first: float
    last: float
    ends: float
    since: int
    message: int
    root: Root


class Sighting(NamedTuple):
    """One resource record of one message: stamp, TTL (seconds), root, and order (number of the message, place in it).

    `noted` is the time at which the stream had reached the message. A lookup with `at` compares it: with a live source
    it is the stamp, in a file the greatest stamp so far.
    """

    noted: float
    stamp: float
    ttl: int
    root: Root
    order: tuple[int, int]


_NO_ROOTS: dict[str, RootSighting] = {}
_NO_SIGHTINGS: list[Sighting] = []


class Relation:
    """An edge with the sum of its sightings. Times are seconds since the epoch.

    `ends` is the greatest stamp + TTL; the relation is live until `ends` plus the grace of the image. `order` is the
    order of the last sighting, for ties. `roots` are the questions whose answers stated it. `first_noted` and
    `last_noted` are the first and last `noted` of a sighting.

    For lookups with `at` the newest sightings are also held one by one in `sightings`; all older ones are folded into
    the sum `before`. While any is held, the sum of `before` and `sightings` equals the relation itself.
    """

    __slots__ = (
        "before",
        "count",
        "ends",
        "first_noted",
        "first_seen",
        "kept",
        "kind",
        "last_noted",
        "last_seen",
        "order",
        "owner",
        "restarted",
        "roots",
        "sightings",
        "target",
    )

    def __init__(self, owner: str, kind: Kind, target: str) -> None:
        self.owner = owner
        self.kind = kind
        self.target = target
        self.kept = True
        self.begin()

    def begin(self, restarted: float = _NEVER) -> None:
        """Start a new life without sightings; `restarted` is its time if another life came before."""
        self.restarted = restarted
        self.first_seen = self.first_noted = _ALWAYS
        self.last_seen = self.last_noted = _NEVER
        self.ends = _NEVER
        self.count = 0
        self.order = (-1, -1)
        self.roots: dict[str, RootSighting] = {}
        self.sightings: list[Sighting] = []
        self.before: Relation | None = None

    def see(self, sighting: Sighting) -> None:
        """Add one sighting, and hold it for lookups with `at`. No sighting shortens the life."""
        if self.count:
            if not self.sightings:
                self.before = self.copy()
            self.sightings.append(sighting)
        self.add(sighting)

    def fold(self) -> None:
        """Fold the oldest sighting into the sum of the older ones."""
        if not self.sightings:
            return
        eldest = self.sightings.pop(0)
        if not self.sightings:
            self.before = None  # the sum of all is the relation itself
            return
        if self.before is None:
            self.before = Relation(self.owner, self.kind, self.target)
        self.before.add(eldest, remembered=self._remembers(eldest))

    def forget(self, root: Root) -> RootSighting | None:
        """Drop a root of this relation, and return its sighting; None if it is none of its roots."""
        seen = self.roots.get(root.name)
        if seen is None or seen.root is not root:
            return None
        del self.roots[root.name]
        if self.before is not None:
            self.before.roots.pop(root.name, None)
        return seen

    def forget_all(self) -> None:
        """Drop everything, so that a deadline that still refers to this relation does not keep it in memory."""
        self.kept = False
        self.roots, self.sightings, self.before = _NO_ROOTS, _NO_SIGHTINGS, None

    def as_of(self, at: float, grace: float) -> tuple[Relation | None, bool]:
        """Return the relation as of `at`, and whether that is exact.

        The relation is None if it had no sighting yet, or if each root that had stated it by then is forgotten.
        """
        if at >= self.last_noted:
            return self, True
        if at < self.first_noted:
            return None, True
        folded = self.before if self.sightings else self
        within = folded is not None and folded.first_noted <= at
        past = folded.copy() if folded and within else Relation(self.owner, self.kind, self.target)
        exact = at >= self.restarted and not (folded and within and at < folded.last_noted)
        for sighting in self.sightings:
            if sighting.noted <= at:
                if sighting.stamp >= past.ends + grace:
                    past.begin()
                past.add(sighting, remembered=self._remembers(sighting))
        return past if past.roots else None, exact

    def _remembers(self, sighting: Sighting) -> bool:
        """Return whether the root of a sighting is still a root of this relation, and was one then."""
        seen = self.roots.get(sighting.root.name)
        return seen is not None and sighting.order[0] >= seen.since

    def add(self, sighting: Sighting, *, remembered: bool = True) -> None:
        """Add a sighting to the sums, and its root if `remembered`.

        Example: a sighting at 100 with TTL 60, then a late one at 90 with TTL 20. After both, `first_seen` is 90,
        `last_seen` 100 and `ends` 160: the late sighting makes the relation older, and its end (110) changes nothing.
        """
        noted, stamp, ttl, root, order = sighting
        ends = stamp + ttl
        self.count += 1
        if stamp > self.last_seen or (stamp == self.last_seen and order[0] != self.order[0]):
            self.last_seen = stamp
            self.order = order
        # Plain comparisons: this runs for every resource record.
        if stamp < self.first_seen:
            self.first_seen = stamp
        if ends > self.ends:
            self.ends = ends
        if noted < self.first_noted:
            self.first_noted = noted
        if noted > self.last_noted:
            self.last_noted = noted
        if remembered:
            self._remember(root, stamp, ends, order[0])

    def _remember(self, root: Root, stamp: float, ends: float, message: int) -> None:
        known = self.roots.get(root.name)
        if known is None:
            self.roots[root.name] = RootSighting(stamp, stamp, ends, message, message, root)
        else:
            first, last, ends = min(known.first, stamp), max(known.last, stamp), max(known.ends, ends)
            self.roots[root.name] = RootSighting(first, last, ends, known.since, message, root)

    def copy(self) -> Relation:
        """Return the sum of all sightings as a relation of its own."""
        copy = Relation(self.owner, self.kind, self.target)
        copy.first_seen, copy.last_seen = self.first_seen, self.last_seen
        copy.first_noted, copy.last_noted = self.first_noted, self.last_noted
        copy.ends, copy.count, copy.order = self.ends, self.count, self.order
        copy.roots = dict(self.roots)
        return copy
