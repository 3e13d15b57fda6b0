"""Answers, each with its own life, and the records that they form (docs/inside/image.md)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from model.naive_relate import Relation

ONE_BY_ONE = 16  # the newest sightings of a record, held one by one; older ones are held as a sum
Record = tuple[str, bool, frozenset[Relation]]  # root, doubted, relations


@dataclass(frozen=True, eq=False)
class Answer:
    """One admitted response that brought relations, or a sum of several.

    `time` is its stamp, `noted` the first `at` for which it counts; `ends` has the end of each relation without the
    grace, in the order of the message. `number` counts the messages in the order of arrival.
    """

    number: int
    root: str
    time: int
    noted: int
    doubted: bool
    ends: dict[Relation, int]

    @property
    def rank(self) -> tuple[bool, int]:
        """Return its rank in every order: a doubted answer is below all others, then the newest is the first."""
        return not self.doubted, self.time

    @cached_property
    def record(self) -> Record:
        """Return the record of which it is a sighting."""
        return self.root, self.doubted, frozenset(self.ends)

    @cached_property
    def last_end(self) -> int:
        """Return the end of its last relation, without the grace."""
        return max(self.ends.values())


def by_record(answers: Iterable[Answer]) -> dict[Record, list[Answer]]:
    """Return the sightings of each record, in the order of arrival."""
    records: dict[Record, list[Answer]] = {}
    for answer in answers:
        records.setdefault(answer.record, []).append(answer)
    return records


def folded(answers: Iterable[Answer], at: int | None = None, *, backwards: bool = False) -> list[Answer]:
    """Return the answers noted until `at`, with the older sightings of each record as one answer: their sum.

    Sightings of a sum that is not over at `at` stay as they are. `backwards` reverses the relations of each sum: their
    order within a sum is not exact.
    """
    kept = []
    for sightings in by_record(answers).values():
        older, newest = sightings[:-ONE_BY_ONE], sightings[-ONE_BY_ONE:]
        if older and (at is None or all(one.noted <= at for one in older)):
            older = [summed(older, backwards=backwards)]
        kept += [one for one in (*older, *newest) if at is None or one.noted <= at]
    return kept


def summed(sightings: list[Answer], *, backwards: bool = False) -> Answer:
    """Return the sum of sightings of one record as one answer: the last time, and the latest end of each relation."""
    last = sightings[-1]
    relations = reversed(last.ends) if backwards else last.ends
    ends = {relation: max(one.ends[relation] for one in sightings) for relation in relations}
    time, noted = max(one.time for one in sightings), max(one.noted for one in sightings)
    return Answer(last.number, last.root, time, noted, last.doubted, ends)


def in_order(sightings: list[Answer]) -> bool:
    """Return whether no sighting arrived late."""
    return all(one.time == one.noted for one in sightings) and sightings == sorted(sightings, key=lambda one: one.time)


def has_late_sum(sightings: list[Answer]) -> bool:
    """Return whether a record has a sum, and a sighting that arrived late."""
    return len(sightings) > ONE_BY_ONE and not in_order(sightings)


def sums_at(answers: Iterable[Answer], at: int, *, gap_of: int | None = None, over: bool = False) -> list[Answer]:
    """Return the sums with sightings both before and after `at`; with `gap_of` (the grace) those with a gap alone.

    With `over` those whose sightings are all before `at` are returned, too.

    More may be returned than an image holds: every sighting that was ever fed counts.
    """
    sums = []
    for sightings in by_record(answers).values():
        older = sightings if has_late_sum(sightings) else sightings[:-ONE_BY_ONE]
        spans = older and min(min(one.time, one.noted) for one in older) <= at
        spans = spans and (over or at <= max(one.noted for one in older))
        if spans and (gap_of is None or has_gap(older, gap_of)):
            sums.append(summed(older))
    return sums


def has_gap(sightings: list[Answer], grace: int) -> bool:
    """Return whether a sighting came after a relation of those before it had ended, or came late."""
    if not in_order(sightings):
        return True
    before = [summed(sightings[:count]) for count in range(1, len(sightings))]
    return any(one.time >= min(so_far.ends.values()) + grace for so_far, one in zip(before, sightings[1:], strict=True))
