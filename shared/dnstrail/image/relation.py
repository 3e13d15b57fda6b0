"""One relation, owner -> target of one kind, with its own life: DESIGN 5.4."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from dnstrail.image.answer import Answer

MAX_ANSWERS = 32  # of one root that are remembered one by one
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


# What leads to the addresses of a name itself; MX and SRV lead to other services' addresses.
DIRECT = frozenset({Kind.A, Kind.AAAA, Kind.CNAME, Kind.SVCB, Kind.HTTPS})


class Edge(NamedTuple):
    """A relation as one message states it; `ttl` in seconds, after RFC 2181 and our cap."""

    owner: str
    kind: Kind
    target: str
    ttl: int


class Root:
    """A question, the relations that its answers brought, and the youngest of those answers.

    It holds its place from its answer on, until its relations have ended or it is evicted.
    """

    __slots__ = ("answers", "name", "relations")

    def __init__(self, name: str) -> None:
        self.name = name
        self.relations: dict[Relation, None] = {}
        self.answers: list[Answer] = []

    def remember(self, answer: Answer) -> None:
        """Keep an answer, and let go of the eldest where there are too many."""
        self.answers.append(answer)
        if len(self.answers) > MAX_ANSWERS:
            del self.answers[0]

    def forget(self) -> None:
        """Hold nothing any more: whoever still waits for its end shall not keep what it held."""
        self.relations = {}
        self.answers = []


class RootSighting(NamedTuple):
    """When one root brought a relation: first and last stamp, the numbers of the first and of the last message."""

    first: float
    last: float
    since: int
    message: int
    root: Root


class Sighting(NamedTuple):
    """One record of one message: its stamp and TTL (seconds), the root, and (number of the message, place in it).

    `noted` is when the stream had come to it, which is what a lookup in the past compares: live, the stamp; in a
    file, the greatest stamp so far.
    """

    noted: float
    stamp: float
    ttl: int
    root: Root
    order: tuple[int, int]


_NO_ROOTS: dict[str, RootSighting] = {}
_NO_SIGHTINGS: list[Sighting] = []


class Relation:
    """An edge that was seen, and its life so far. Times are seconds since the epoch.

    `ends` is the largest of sighting + TTL: with the grace of the image added it is what DESIGN calls `expires`.
    `order` is that of the last sighting, for ties. `roots` are the questions that brought it. `first_noted` and
    `last_noted` are when the stream first and last came to a sighting.

    For lookups in the past the youngest sightings are held one by one; what was before them, the first one at least, is
    folded into one sum.
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
        """Start a new life, in which nothing was seen yet; `restarted`: when, if there was one before."""
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
        """Add one sighting; a shorter one does not shorten the life, a late one does not make it older."""
        if self.count:
            if not self.sightings:
                self.before = self.copy()
            self.sightings.append(sighting)
        self.add(sighting)

    def fold(self) -> None:
        """Hold the eldest sighting no longer by itself."""
        if not self.sightings:
            return
        eldest = self.sightings.pop(0)
        if not self.sightings:
            self.before = None  # the sum of all is the relation itself
            return
        if self.before is None:
            self.before = Relation(self.owner, self.kind, self.target)
        self.before.add(eldest, remembered=self._remembers(eldest))

    def forget(self, root: Root) -> bool:
        """Know no more that a root brought it; False if it was not known."""
        brought = self.roots.get(root.name)
        if brought is None or brought.root is not root:
            return False
        del self.roots[root.name]
        if self.before is not None:
            self.before.roots.pop(root.name, None)
        return True

    def forget_all(self) -> None:
        """Be no longer kept: whoever still waits for its end shall not keep what it held."""
        self.kept = False
        self.roots, self.sightings, self.before = _NO_ROOTS, _NO_SIGHTINGS, None

    def as_of(self, at: float, grace: float) -> tuple[Relation | None, bool]:
        """The relation as the sightings noted by `at` made it (None: there were none), and whether that is exact."""
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
        return past, exact

    def _remembers(self, sighting: Sighting) -> bool:
        """Whether the root of a sighting is one that the relation still knows from then."""
        brought = self.roots.get(sighting.root.name)
        return brought is not None and sighting.order[0] >= brought.since

    def add(self, sighting: Sighting, *, remembered: bool = True) -> None:
        """Count a sighting in, and its root, if that is to be remembered."""
        noted, stamp, ttl, root, order = sighting
        ends = stamp + ttl
        self.count += 1
        if stamp > self.last_seen or (stamp == self.last_seen and order[0] != self.order[0]):
            self.last_seen = stamp
            self.order = order
        # Plain comparisons: this is done for every record that comes.
        if stamp < self.first_seen:
            self.first_seen = stamp
        if ends > self.ends:
            self.ends = ends
        if noted < self.first_noted:
            self.first_noted = noted
        if noted > self.last_noted:
            self.last_noted = noted
        if remembered:
            self._remember(root, stamp, order[0])

    def _remember(self, root: Root, stamp: float, message: int) -> None:
        known = self.roots.get(root.name)
        if known is None:
            self.roots[root.name] = RootSighting(stamp, stamp, message, message, root)
        else:
            first, last = min(known.first, stamp), max(known.last, stamp)
            self.roots[root.name] = RootSighting(first, last, known.since, message, root)

    def copy(self) -> Relation:
        """The sum of all sightings, as a relation of its own."""
        copy = Relation(self.owner, self.kind, self.target)
        copy.first_seen, copy.last_seen = self.first_seen, self.last_seen
        copy.first_noted, copy.last_noted = self.first_noted, self.last_noted
        copy.ends, copy.count, copy.order = self.ends, self.count, self.order
        copy.roots = dict(self.roots)
        return copy
