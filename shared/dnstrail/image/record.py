"""Query roots and their records: the answers to one question that state the same relations (docs/inside/image.md)."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from operator import attrgetter
from typing import Final, NamedTuple

from dnstrail.image.answer import Edge
from dnstrail.image.evidence import Evidence
from dnstrail.image.holders import ALONE, Party
from dnstrail.image.order import Link, PartyLink, Ring

#: answers of one record that are held one by one -> the oldest is added to the sum of the record: `history` is false
#: where that matters
MAX_SIGHTINGS: Final = 16
MAX_SAMPLES: Final = 64  # answers of one sum whose times are held, spread evenly over it
_VALUES: Final = 4  # of a sample
DOUBT: Final = (1 << 62) - 1  # is subtracted from a doubted stamp, so that it comes after every other
LATE: Final = (1 << 62) - 1  # more than every freshness
INDEXED: Final = 16  # edges of a Record; more are in a LongRecord
_PLACES: Final = [range(size) for size in range(INDEXED + 1)]


class Sighting:
    """One answer of a record. `lives` are in ns, along the edges of the record; `number` counts all answers.

    `stamp` is the time of its packet. `noted` is the time at which it counts for lookups of the past: the same with a
    live source, and the time of the stream with a file.
    """

    __slots__ = ("evidence", "lives", "noted", "number", "stamp")

    def __init__(self, noted: int, stamp: int, number: int, lives: tuple[int, ...], evidence: Evidence) -> None:
        self.noted = noted
        self.stamp = stamp
        self.number = number
        self.lives = lives
        self.evidence = evidence

    def end(self, place: int) -> int:
        """Return the end of the life that this answer gave to a relation, without grace."""
        return self.stamp + self.lives[place]


class Sample(NamedTuple):
    """The times of one answer in a sum, its number, and the shortest life of its relations (ns)."""

    noted: int
    stamp: int
    number: int
    life: int


class Sum:
    """The sum of the older answers of a record: count, times, and the latest end of each relation (without grace).

    `gap` states that a relation ended before the next answer came, or that answers came out of order. Without a gap the
    sum is exact at any time about the relations that were live. `life` is the shortest life that an answer gave. The
    samples are the first answer and every `_step`-th one after it, at most MAX_SAMPLES.
    """

    __slots__ = (
        "_samples",
        "_step",
        "count",
        "ends",
        "first",
        "first_noted",
        "gap",
        "life",
        "noted",
        "number",
        "stamp",
    )

    def __init__(self, sighting: Sighting) -> None:
        self.count = 1
        self.first = self.stamp = sighting.stamp
        self.first_noted = self.noted = sighting.noted
        self.number = sighting.number
        self.ends = [sighting.stamp + life for life in sighting.lives]
        self.gap = False
        self.life = min(sighting.lives)
        self._samples = array("q")  # _VALUES for each
        self._step = 1
        self._sample(sighting)

    @property
    def whole(self) -> bool:
        """True if all answers are samples."""
        return len(self._samples) == _VALUES * self.count

    def samples(self) -> list[Sample]:
        """Return the samples, oldest first."""
        values = self._samples
        return [Sample(*values[first : first + _VALUES]) for first in range(0, len(values), _VALUES)]

    def end(self, place: int) -> int:
        """Return the latest end of a relation."""
        return self.ends[place]

    def add(self, sighting: Sighting, grace: int) -> None:
        """Add the next answer in the order of arrival."""
        noted, stamp, ends = sighting.noted, sighting.stamp, self.ends
        self.life = min(self.life, *sighting.lives)
        since = noted - grace
        for place, life in enumerate(sighting.lives):
            if ends[place] <= since:
                self.gap = True
            if stamp + life > ends[place]:
                ends[place] = stamp + life
        if noted < self.noted:
            self.gap, self.first_noted = True, min(self.first_noted, noted)
        else:
            self.noted = noted
        if stamp < self.stamp:
            self.gap, self.first = True, min(self.first, stamp)
        else:
            self.stamp = stamp
        if self.count % self._step == 0:
            self._sample(sighting)
        self.count += 1
        self.number = sighting.number

    def samples_until(self, at: int) -> list[Sample]:
        """Return the samples that were noted until a time at which the sum had begun, the first one at least."""
        samples = self.samples()
        return [one for one in samples if one.noted <= at] or samples[:1]

    def most_until(self, at: int) -> tuple[int, int]:
        """Return a number and a stamp that no answer until a time exceeds."""
        for one in self.samples():
            if one.noted > at:
                return one.number - 1, min(at, one.stamp)
        return self.number, min(at, self.stamp)

    def _sample(self, sighting: Sighting) -> None:
        """Add a sample; of too many every second one stays."""
        self._samples.extend((sighting.noted, sighting.stamp, sighting.number, min(sighting.lives)))
        if len(self._samples) > _VALUES * MAX_SAMPLES:
            kept = self.samples()[::2]
            self._samples = array("q", [value for sample in kept for value in sample])
            self._step *= 2


class Record(Link):
    """The answers of one root that state the same edges; either all of them are doubted, or none.

    The newest MAX_SIGHTINGS answers are held one by one: `youngest` arrived last, and `elder` contains the others,
    oldest first. `total` is the sum of all older answers. `latest` is a freshness that no relation exceeds: the stamp
    of the last answer, less DOUBT if it is doubted; or LATE if an answer is older than one before it. `life` is the
    time from the stamp of `youngest` to the latest end of all relations, without grace. `bucket` is the bucket of a
    wheel that contains the record. `led` contains, by port, the connections that followed an answer: the number of the
    older ones, then the stamps of the last ones.
    """

    __slots__ = ("bucket", "doubted", "edges", "elder", "latest", "led", "life", "root", "total", "youngest")

    def __init__(self, root: Root, edges: tuple[Edge, ...], youngest: Sighting, *, doubted: bool) -> None:
        self.newer = self.older = None
        self.root = root
        self.edges = edges
        self.doubted = doubted
        self.youngest = youngest
        self.elder: list[Sighting] | None = None
        self.total: Sum | None = None
        self.latest = youngest.stamp - DOUBT if doubted else youngest.stamp
        self.life = _longest(youngest.lives, 0)
        self.bucket: Bucket | None = None
        self.led: dict[int, list[int]] | None = None

    @property
    def ends(self) -> int:
        """The latest end of all relations, without grace."""
        return self.youngest.stamp + self.life

    def add(self, sighting: Sighting, grace: int) -> None:
        """Add the answer that arrived last."""
        if self.elder is None:
            self.elder = []
        self.elder.append(self.youngest)
        if self.latest == LATE or sighting.stamp < self.youngest.stamp:
            self.latest = LATE
        else:
            self.latest = sighting.stamp - DOUBT if self.doubted else sighting.stamp
        self.life = _longest(sighting.lives, self.ends - sighting.stamp)
        self.youngest = sighting
        if len(self.elder) >= MAX_SIGHTINGS:
            oldest = self.elder.pop(0)
            if self.total is None:
                self.total = Sum(oldest)
            else:
                self.total.add(oldest, grace)

    def sightings(self) -> list[Sighting]:
        """Return the answers that are held one by one, the last arrival first."""
        if self.elder is None:
            return [self.youngest]
        return [self.youngest, *reversed(self.elder)]

    def owned_by(self, node: str) -> Sequence[int]:  # noqa: ARG002 - a LongRecord needs it
        """Return the places of the edges with this owner, perhaps among others: the caller compares the owner."""
        return _PLACES[len(self.edges)]

    def leading_to(self, node: str) -> Sequence[int]:  # noqa: ARG002 - as above
        """Return the places of the edges with this target, perhaps among others: the caller compares the target."""
        return _PLACES[len(self.edges)]

    def leave_bucket(self) -> None:
        """Leave the bucket, if the record is in one."""
        self.remove_link()
        self.bucket = None

    def clear(self) -> None:
        """Drop the content, so that a reference to this record keeps none of it in memory."""
        self.edges = ()
        self.elder = self.total = self.led = None


def _longest(lives: tuple[int, ...], longest: int) -> int:
    """Return the longest of some lives and another one. This costs less than max()."""
    for life in lives:
        if life > longest:
            longest = life
    return longest


class LongRecord(Record):
    """A record of more than INDEXED edges, which finds them by an index that the first lookup makes."""

    __slots__ = ("_places",)

    def __init__(self, root: Root, edges: tuple[Edge, ...], youngest: Sighting, *, doubted: bool) -> None:
        super().__init__(root, edges, youngest, doubted=doubted)
        self._places: tuple[dict[str, list[int]], dict[str, list[int]]] | None = None

    def owned_by(self, node: str) -> Sequence[int]:
        """Return the places of the edges with this owner."""
        return self._index()[0].get(node, ())

    def leading_to(self, node: str) -> Sequence[int]:
        """Return the places of the edges with this target."""
        return self._index()[1].get(node, ())

    def clear(self) -> None:
        """Drop the content, and the index of it."""
        super().clear()
        self._places = None

    def _index(self) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
        if self._places is None:
            owners: dict[str, list[int]] = {}
            targets: dict[str, list[int]] = {}
            for place, (owner, _, target) in enumerate(self.edges):
                owners.setdefault(owner, []).append(place)
                targets.setdefault(target, []).append(place)
            self._places = owners, targets
        return self._places


def new_record(root: Root, edges: tuple[Edge, ...], youngest: Sighting, *, doubted: bool) -> Record:
    """Return a record of the kind that finds this number of edges fast."""
    if len(edges) > INDEXED:
        return LongRecord(root, edges, youngest, doubted=doubted)
    return Record(root, edges, youngest, doubted=doubted)


class Bucket(Ring[Record]):
    """The records whose next deadline lies in one second."""

    __slots__ = ("second",)

    def __init__(self, second: int) -> None:
        super().__init__()
        self.second = second


class Root(PartyLink):
    """A question that holds a place, with the records of its answers.

    `latest` is the record of the last answer. `others` contains all records by their edges if there are several, the
    last answered last; else it is None. `relations` is the number of edges of all records. `ended` states that all
    relations have ended. `longest` is the record that ended last when the ends were compared, None before and if it is
    removed. `last_use` is the number of the last use. `shared` states who asked for it besides the owner of `party`.
    """

    __slots__ = ("ended", "last_use", "latest", "longest", "name", "others", "party", "relations", "shared")

    def __init__(self, name: str, party: Party[Root]) -> None:
        self.newer = self.older = self.newer_in_party = self.older_in_party = None
        self.name = name
        self.party = party
        self.ended = False
        self.last_use = 0
        self.shared = ALONE
        self.relations = 0
        self.latest: Record | None = None
        self.longest: Record | None = None
        self.others: dict[tuple[frozenset[Edge], bool], Record] | None = None

    def records(self) -> list[Record]:
        """Return the records, the last answered last."""
        if self.others is not None:
            return [*self.others.values()]
        return [] if self.latest is None else [self.latest]

    def last_end(self, now: int) -> int:
        """Return the end of some relation that lasts beyond `now`, without grace, else the latest end of all.

        The ends of all records are compared only when the record that ended last is over, or removed.
        """
        if self.longest is None or self.longest.ends <= now:
            self.longest = max(self.records(), key=attrgetter("ends"))
        return self.longest.ends

    def find(self, edges: tuple[Edge, ...], *, doubted: bool) -> Record | None:
        """Return the record that states exactly these edges in any order, and make it the latest; None if none does."""
        latest = self.latest
        if latest is not None and latest.doubted == doubted and latest.edges == edges:
            return latest
        if self.others is None:
            if latest is None or latest.doubted != doubted or frozenset(latest.edges) != frozenset(edges):
                return None
            return latest
        key = frozenset(edges), doubted
        record = self.others.pop(key, None)
        if record is not None:
            self.others[key] = self.latest = record
        return record

    def add(self, record: Record) -> None:
        """Add a new record as the latest."""
        latest = self.latest
        if latest is not None and self.others is None:
            self.others = {(frozenset(latest.edges), latest.doubted): latest}
        if self.others is not None:
            self.others[frozenset(record.edges), record.doubted] = record
        self.latest = record
        self.relations += len(record.edges)

    def remove(self, record: Record) -> None:
        """Remove a record before it is cleared."""
        self.relations -= len(record.edges)
        if self.longest is record:
            self.longest = None
        if self.others is not None:
            del self.others[frozenset(record.edges), record.doubted]
            if not self.others:
                self.others = None
        if self.latest is record:
            self.latest = next(reversed(self.others.values())) if self.others else None
