"""The life of a relation, computed from its sightings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

Relation = tuple[str, str, str]  # owner, kind, target
Place = tuple[int, int, int]  # number of the message, index of the record, position among its hints


class Sighting(NamedTuple):
    """One relation as one message stated it; `root` is None once the image has forgotten the question.

    `time` is the stamp of the packet; `noted` the first `at` for which it counts; `until` time plus TTL. In seconds.
    """

    time: float
    noted: float
    until: float
    place: Place
    root: str | None


@dataclass
class Life:
    """The last life of one relation; `until` is the greatest sighting + TTL, without the grace."""

    owner: str
    kind: str
    target: str
    first_seen: float
    until: float
    last_seen: float
    place: Place  # of the sighting last seen
    arrived: Place  # of the sighting that arrived last
    roots: dict[str, int]  # root -> number of the last message that stated the relation in this life
    count: int = 0

    def add(self, seen: Sighting) -> None:
        """Count one more sighting; among several in one message the first gives its place."""
        self.count += 1
        self.first_seen = min(self.first_seen, seen.time)
        self.until = max(self.until, seen.until)
        if seen.root is not None:
            self.roots[seen.root] = seen.place[0]
        if seen.place[0] > self.arrived[0]:
            self.arrived = seen.place
        if (seen.time, seen.place[0]) > (self.last_seen, self.place[0]):
            self.last_seen, self.place = seen.time, seen.place


def last_life(relation: Relation, sightings: Iterable[Sighting], grace: float) -> Life | None:
    """Return the life of a relation with these sightings, in the order of their arrival; None without any."""
    life: Life | None = None
    for seen in sightings:
        if life is None or seen.time >= life.until + grace:
            life = Life(*relation, seen.time, seen.until, seen.time, seen.place, seen.place, {})
        life.add(seen)
    return life
