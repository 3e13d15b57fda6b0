"""State that is bounded: tables, and the gates over time that detections build on them."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Generic, TypeVar

import msgspec

_SECOND = 1_000_000_000
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class BoundedTable(Generic[Key, Value]):
    """Values by key, at most `most` of them. Beyond that the entry used longest ago is evicted (`evicted` counts)."""

    def __init__(self, most: int) -> None:
        self.evicted = 0
        self._most = most
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Key]:
        """Iterate over the keys; the one that was used longest ago is the first."""
        return iter(self._values)

    def values(self) -> Iterator[Value]:
        """Iterate over the values, in the order of the keys."""
        return iter(self._values.values())

    def get(self, key: Key) -> Value | None:
        """Return the value of a key, which is used now, or None."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: Key, value: Value) -> Value | None:
        """Set the value of a key; return the value that is evicted, or None."""
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) <= self._most:
            return None
        self.evicted += 1
        return self._values.popitem(last=False)[1]

    def of(self, key: Key, new: Callable[[], Value]) -> Value:
        """Return the value of a key; make it if there is none."""
        value = self.get(key)
        if value is None:
            value = new()
            self.put(key, value)
        return value

    def pop(self, key: Key) -> Value | None:
        """Remove a key and return its value, or None."""
        return self._values.pop(key, None)


class Once:
    """The subjects that were reported within the last `seconds`, at most `most` of them."""

    def __init__(self, most: int, seconds: float) -> None:
        self.table: BoundedTable[Hashable, int] = BoundedTable(most)
        self._nanoseconds = round(seconds * _SECOND)

    def first(self, subject: Hashable, at: int) -> bool:
        """Return True if a subject was not reported lately, and note that it is reported now (ns)."""
        last = self.table.get(subject)
        if last is not None and abs(at - last) < self._nanoseconds:
            return False
        self.table.put(subject, at)
        return True


class FirstSeen:
    """The subjects that were seen, at most `most` of them. Nothing is new within the first `learn` seconds.

    They begin with the earliest time, so that one host whose clock is ahead silences no other.
    """

    def __init__(self, most: int, learn: float, known: Iterable[Hashable] = ()) -> None:
        self.table: BoundedTable[Hashable, bool] = BoundedTable(most)
        self._learn = round(learn * _SECOND)
        self._begun: int | None = None
        for subject in known:
            self.table.put(subject, True)

    def is_new(self, subject: Hashable, at: int) -> bool:
        """Note a subject at a time (ns). Return True if it is new, and the time to learn is over."""
        self._begun = at if self._begun is None else min(self._begun, at)
        if self.table.get(subject) is not None:
            return False
        self.table.put(subject, True)
        return at - self._begun >= self._learn

    def take_over(self, former: FirstSeen) -> None:
        """Go on with what another one has seen, as far as it has room, and with its time to learn."""
        self._begun = former._begun
        for subject in former.table:
            self.table.put(subject, True)


_Values = tuple[deque[int], BoundedTable[Hashable, int]]  # the times, and the last time of each distinct value (ns)


class BurstGate(msgspec.Struct, frozen=True):
    """The gate is reached by `count` values of a subject within `seconds`, `distinct` of them distinct."""

    count: int
    distinct: int
    seconds: float


class Bursts:
    """At most `most` subjects, each with the last times and the last distinct values of the gate.

    They are held apart, so that repeated values, as of a client that asks for A and AAAA, evict no distinct ones.
    """

    def __init__(self, gate: BurstGate, most: int) -> None:
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
