"""A gate over time: many values of one subject, enough of them distinct, within a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

import msgspec

from dnstrail_signatures.detection.bounded_table import BoundedTable

_SECOND = 1_000_000_000
_Values = tuple[deque[int], BoundedTable[Hashable, int]]  # the times, and the last time of each distinct value (ns)


class Gate(msgspec.Struct, frozen=True):
    """The gate is reached by `count` values of a subject within `seconds`, `distinct` of them distinct."""

    count: int
    distinct: int
    seconds: float


class Bursts:
    """At most `most` subjects, each with the last times and the last distinct values of the gate.

    They are held apart, so that repeated values, as of a client that asks for A and AAAA, evict no distinct ones.
    """

    def __init__(self, gate: Gate, most: int) -> None:
        self.table: BoundedTable[Hashable, _Values] = BoundedTable(most)
        self._gate = gate
        self._nanoseconds = round(gate.seconds * _SECOND)

    def reached(self, subject: Hashable, value: Hashable, at: int) -> bool:
        """Add a value of a subject at a time (ns). Return True if the gate is reached; the subject then begins anew."""
        times, values = self.table.of(subject, self._new)
        times.append(at)
        values.put(value, at)
        if len(times) < self._gate.count or len(values) < self._gate.distinct:
            return False
        oldest = next(values.values(), at)  # there is none if no value needs to be distinct
        if abs(at - times[0]) > self._nanoseconds or abs(at - oldest) > self._nanoseconds:
            return False
        self.table.pop(subject)
        return True

    def _new(self) -> _Values:
        return deque(maxlen=self._gate.count), BoundedTable(self._gate.distinct)
