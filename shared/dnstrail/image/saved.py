"""The answers of a root as plain values, out of an image and into another one (docs/use/services.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Annotated, Final

import msgspec

from dnstrail.dns.rdata import PTR, Kind
from dnstrail.image.answer import Answer, Edge, PartyKey
from dnstrail.image.bounds import SECOND
from dnstrail.image.evidence import Evidence
from dnstrail.image.image import Image
from dnstrail.image.record import MAX_SIGHTINGS, Record, Sighting, Sum
from dnstrail.image.relate import MAX_TTL

LONGEST_LIFE: Final = MAX_TTL * SECOND  # ns: the longest life
_KINDS: Final = frozenset(map(int, Kind))
_Stamp = Annotated[int, msgspec.Meta(ge=-(1 << 62), le=1 << 62)]
_Number = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]  # a name has 255 bytes: 1,004 characters, escaped
_Node = tuple[_Name, int, _Name]


class SavedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of a record; `lives` are along its edges (ns). Times are ns since the epoch, in wall time."""

    stamp: _Stamp
    noted: _Stamp
    number: _Number
    lives: tuple[Annotated[int, msgspec.Meta(ge=0, le=LONGEST_LIFE)], ...]
    evidence: Evidence


class SavedSum(msgspec.Struct, frozen=True, kw_only=True):
    """The sum of the older answers of a record."""

    count: Annotated[int, msgspec.Meta(ge=1, lt=1 << 53)]
    first: _Stamp
    first_noted: _Stamp
    stamp: _Stamp
    noted: _Stamp
    number: _Number
    ends: tuple[_Stamp, ...]
    gap: bool
    evidence: Evidence


class SavedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The answers of one root that state the same edges, the oldest first.

    `owner` is the number of the owner of the party, 0 if it is that of the party itself.

    Raises:
        ValueError: the values contradict each other.
    """

    question: _Name
    party: PartyKey
    owner: int = 0
    doubted: bool
    edges: tuple[_Node, ...]
    answers: tuple[SavedAnswer, ...]
    total: SavedSum | None = None

    def __post_init__(self) -> None:
        size = len(self.edges)
        kinds = {kind for _, kind, _ in self.edges}
        if not kinds or not kinds <= _KINDS or (PTR in kinds and len(kinds) > 1) or len(set(self.edges)) < size:
            raise ValueError("edges that no answer states")
        if not 0 < len(self.answers) <= MAX_SIGHTINGS or any(len(one.lives) != size for one in self.answers):
            raise ValueError("answers that do not fit their edges")
        if self.total is not None and (len(self.total.ends) != size or len(self.answers) < MAX_SIGHTINGS):
            raise ValueError("a sum that does not fit its answers")
        numbers = [*([] if self.total is None else [self.total.number]), *(one.number for one in self.answers)]
        if any(earlier >= later for earlier, later in pairwise(numbers)):
            raise ValueError("answers out of order")

    @property
    def last(self) -> int:
        """The number of the last answer."""
        return self.answers[-1].number


def saved_records(image: Image, question: str, difference: int) -> list[SavedRecord]:
    """Return the records of a root, [] for a name that holds no place; `difference` is wall time minus the clock."""
    root = image.store.places.roots.get(question)
    return [] if root is None else [_saved(record, difference) for record in root.records()]


def without_later(records: Iterable[SavedRecord], last: int) -> Iterator[SavedRecord]:
    """Yield records without the answers that came after the one with this number.

    A record with a sum has many answers, and stays as it is: the counts of a sum are not exact.
    """
    for record in records:
        if record.total is not None or record.last <= last:
            yield record
        elif earlier := tuple(one for one in record.answers if one.number <= last):
            yield msgspec.structs.replace(record, answers=earlier)


def restore(image: Image, records: Iterable[SavedRecord], shift: int) -> int:
    """Add records to an image of a live source, in the order of their last answers; return how many have expired.

    `shift` is added to their times. No time is later than the clock of the image. Bounds evict as ever.
    """
    expired, shared = 0, _Shared()
    for saved in sorted(records, key=_last):
        if not _restore(image, saved, shift, shared):
            expired += 1
    return expired


def _last(saved: SavedRecord) -> int:
    return saved.last


class _Shared:
    """The evidence that several answers share."""

    def __init__(self) -> None:
        self._known: dict[Evidence, Evidence] = {}

    def evidence(self, evidence: Evidence) -> Evidence:
        """Return the evidence that equals this one, and was seen first."""
        return self._known.setdefault(evidence, evidence)


def _saved(record: Record, difference: int) -> SavedRecord:
    host, sort, number, owner = record.root.party.key
    total = None if record.total is None else _saved_sum(record.total, record.youngest.evidence, difference)
    answers = tuple(_saved_answer(one, difference) for one in reversed([*record.sightings()]))
    return SavedRecord(
        question=record.root.name,
        party=(host, sort, number),
        owner=owner,
        doubted=record.doubted,
        edges=record.edges,
        answers=answers,
        total=total,
    )


def _saved_answer(sighting: Sighting, difference: int) -> SavedAnswer:
    return SavedAnswer(
        stamp=sighting.stamp + difference,
        noted=sighting.noted + difference,
        number=sighting.number,
        lives=sighting.lives,
        evidence=sighting.evidence,
    )


def _saved_sum(total: Sum, evidence: Evidence, difference: int) -> SavedSum:
    return SavedSum(
        count=total.count,
        first=total.first + difference,
        first_noted=total.first_noted + difference,
        stamp=total.stamp + difference,
        noted=total.noted + difference,
        number=total.number,
        ends=tuple(end + difference for end in total.ends),
        gap=total.gap,
        evidence=evidence,
    )


def _restore(image: Image, saved: SavedRecord, shift: int, shared: _Shared) -> bool:
    """Add a record; return False, and note its end, if it would have been removed by now."""
    now, store = image.now, image.store
    answer = Answer(saved.question, 0, _shared_names(saved.question, saved.edges))
    sightings = [*_sightings(saved, shift, now, shared)]
    end = max(one.stamp + max(one.lives) for one in sightings) + image.bounds.grace_ns
    if end + image.bounds.history_ns <= now:
        store.forget(end)
        return False
    share = (*saved.party, saved.owner or saved.party[2])
    for one in sightings:  # as of then: what has ended since stays in its record
        store.apply(answer, one, share, one.noted, doubted=saved.doubted, live=True)
    root, total = store.places.roots.get(saved.question), saved.total
    record = None if root is None else root.latest
    if total is not None and record is not None and record.total is not None:
        record.total.count = total.count
        record.total.first = min(total.first + shift, now)
        record.total.first_noted = min(total.first_noted + shift, now)
        record.total.gap = record.total.gap or total.gap
    return True


def _sightings(saved: SavedRecord, shift: int, now: int, shared: _Shared) -> Iterator[Sighting]:
    """Yield the answers of a record. The sum is an answer before the others: they add it up again."""
    total = saved.total
    if total is not None:
        lives = tuple(min(end - total.stamp, LONGEST_LIFE) for end in total.ends)
        evidence = shared.evidence(total.evidence)
        yield Sighting(min(total.noted + shift, now), min(total.stamp + shift, now), total.number, lives, evidence)
    for one in saved.answers:
        evidence = shared.evidence(one.evidence)
        yield Sighting(min(one.noted + shift, now), min(one.stamp + shift, now), one.number, one.lives, evidence)


def _shared_names(question: str, edges: tuple[Edge, ...]) -> tuple[Edge, ...]:
    """Return the same edges with one object for each name."""
    names = {question: question}
    return tuple((names.setdefault(owner, owner), kind, names.setdefault(to, to)) for owner, kind, to in edges)
