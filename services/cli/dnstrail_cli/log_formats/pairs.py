"""The questions of one call: A and AAAA for one name, asked at once by one process."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

import msgspec

from dnstrail.events.facts import ANSWERED
from dnstrail.history.log.entries import LogEntry, LoggedQuestion

TOGETHER: Final = 1_000_000_000  # ns between the begins, and between the ends, of the questions of one call
#: entries of the table that wait up to a second for the other question of their call -> the oldest is printed
MOST_WAITING: Final = 4096
_ADDRESSES: Final = frozenset({"A", "AAAA"})
_SAME: Final = (frozenset({ANSWERED, "no_data"}), frozenset({ANSWERED}))  # outcomes that one line states
_Call = tuple[str, int, str | None, str, str]


class _Waiting:
    """An entry that waits for the other question of its call, unless it is complete."""

    __slots__ = ("call", "entry")

    def __init__(self, entry: LogEntry, call: _Call | None) -> None:
        self.entry = entry
        self.call = call


class PairedQuestions:
    """Joins A and AAAA of one call. Entries keep the order of their arrival, and wait for a second at most."""

    def __init__(self) -> None:
        self._waiting: deque[_Waiting] = deque()
        self._calls: dict[_Call, _Waiting] = {}

    def add(self, entry: LogEntry) -> None:
        """Take an entry."""
        call = _call_of(entry) if isinstance(entry, LoggedQuestion) and entry.type in _ADDRESSES else None
        if call is not None and isinstance(entry, LoggedQuestion):
            other = self._calls.pop(call, None)
            if other is not None and isinstance(other.entry, LoggedQuestion):
                other.call = None  # it waits no longer
                if _are_one_call(other.entry, entry):
                    other.entry = _joined(other.entry, entry)
                    return
        waiting = _Waiting(entry, call)
        if call is not None:
            self._calls[call] = waiting
        self._waiting.append(waiting)

    def ready(self, now: int) -> Iterator[LogEntry]:
        """Yield the entries that are complete, or a second or more from `now` (ns since the epoch)."""
        while self._waiting:
            first = self._waiting[0]
            distance = abs(now - first.entry.timestamp)  # the clock may be set back meanwhile
            is_over = distance >= TOGETHER or len(self._waiting) > MOST_WAITING
            if first.call is not None and not is_over:
                return
            self._waiting.popleft()
            if first.call is not None:
                del self._calls[first.call]
            yield first.entry


def _call_of(entry: LoggedQuestion) -> _Call:
    return entry.host, entry.process_id, entry.src, entry.hop, entry.name


def _are_one_call(first: LoggedQuestion, second: LoggedQuestion) -> bool:
    return (
        first.type != second.type
        and abs(first.begun - second.begun) <= TOGETHER
        and abs(first.timestamp - second.timestamp) <= TOGETHER
        and (first.outcome == second.outcome or {first.outcome, second.outcome} in _SAME)
    )


def _joined(first: LoggedQuestion, second: LoggedQuestion) -> LoggedQuestion:
    four, six = (first, second) if first.type == "A" else (second, first)
    waited = [one.waited for one in (first, second) if one.waited is not None]
    return msgspec.structs.replace(
        first,
        type="A, AAAA",
        outcome=ANSWERED if second.outcome == ANSWERED else first.outcome,
        tries=max(first.tries, second.tries),
        waited=max(waited, default=None),
        relations=tuple(dict.fromkeys(four.relations + six.relations)),
    )
