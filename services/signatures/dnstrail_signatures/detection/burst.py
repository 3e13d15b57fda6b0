"""A gate over time: many values of one subject, enough of them distinct, within a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

import msgspec

from dnstrail_signatures.detection.bounded_table import BoundedTable

_SECOND = 1_000_000_000


class Gate(msgspec.Struct, frozen=True):
    """The gate is reached by the last `count` values of a subject: within `seconds`, `distinct` of them distinct."""

    count: int
    distinct: int
    seconds: float


class Bursts:
    """The last values of each subject, at most `most` subjects, each with the `count` values of the gate."""

    def __init__(self, gate: Gate, most: int) -> None:
        self.table: BoundedTable[Hashable, deque[tuple[int, Hashable]]] = BoundedTable(most)
        self._gate = gate
        self._nanoseconds = round(gate.seconds * _SECOND)

    def reached(self, subject: Hashable, value: Hashable, at: int) -> bool:
        """Add a value of a subject at a time (ns). Return True if the gate is reached; the subject then begins anew."""
        values = self.table.of(subject, self._new)
        values.append((at, value))
        if len(values) < self._gate.count or at - values[0][0] > self._nanoseconds:
            return False
        if len({each for _, each in values}) < self._gate.distinct:
            return False
        self.table.pop(subject)
        return True

    def _new(self) -> deque[tuple[int, Hashable]]:
        return deque(maxlen=self._gate.count)
