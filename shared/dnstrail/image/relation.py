"""One relation, owner -> target of one kind, with its own life: DESIGN 5.4."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


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


class Brought(NamedTuple):
    """When one root brought a relation: first and last stamp, and the number of the last message."""

    first: float
    last: float
    message: int


class Relation:
    """An edge that was seen, and its life so far. Times are seconds since the epoch.

    `ends` is the largest of sighting + TTL: with the grace of the image added it is what DESIGN calls `expires`.
    `order` is (message, place in it) of the last sighting, for ties. `roots` are the questions that brought it.
    """

    __slots__ = (
        "count",
        "ends",
        "first_seen",
        "kept",
        "kind",
        "last_seen",
        "order",
        "owner",
        "roots",
        "target",
    )

    def __init__(self, owner: str, kind: Kind, target: str) -> None:
        self.owner = owner
        self.kind = kind
        self.target = target
        self.kept = True
        self.begin()

    def begin(self) -> None:
        """Start a new life, in which nothing was seen yet."""
        self.first_seen = float("inf")
        self.last_seen = float("-inf")
        self.ends = float("-inf")
        self.count = 0
        self.order = (-1, -1)
        self.roots: dict[str, Brought] = {}

    def see(self, root: str, stamp: float, ttl: int, order: tuple[int, int]) -> None:
        """Add one sighting; a shorter one does not shorten the life, a late one does not make it older."""
        self.count += 1
        self.first_seen = min(self.first_seen, stamp)
        if stamp > self.last_seen or (stamp == self.last_seen and order[0] != self.order[0]):
            self.last_seen = stamp
            self.order = order
        self.ends = max(self.ends, stamp + ttl)
        before = self.roots.get(root)
        if before is None:
            self.roots[root] = Brought(stamp, stamp, order[0])
        else:
            self.roots[root] = Brought(min(before.first, stamp), max(before.last, stamp), order[0])
