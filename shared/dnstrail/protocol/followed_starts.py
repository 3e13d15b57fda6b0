"""The starts of probes that a subscriber follows: a bounded number, and a live one never gives way to a new one."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping

import structlog

from dnstrail.events import REFUSED_EVENTS
from dnstrail.log_pause import LogPause
from dnstrail.protocol.batches import Batch, Turn

#: seconds of the silence of a start after which it may give way -> a start that was heard since never gives way
VANISHED = 10.0
_LONGEST = 2.0  # seconds between two messages: a subscriber that stood still longer knows nothing of the rest


class FollowedStarts:
    """The starts that a subscriber follows, at most `most` of them.

    Beyond this number a new start takes the place of one that has ended, else of one that has vanished, the oldest
    first: `forget` receives it. Without such a start the new one is refused. It is named in the log. `counters` counts
    such starts (`probes_refused`), and the events that they publish (`refused_events`).
    """

    def __init__(self, most: int, forget: Callable[[str], None], counters: Counter[str]) -> None:
        self._most = most
        self._forget = forget
        self._counters = counters
        self._heard: OrderedDict[str, float] = OrderedDict()  # when each was heard; the one silent for longest first
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._refused: OrderedDict[str, None] = OrderedDict()
        self._time = 0.0  # seconds in which this subscriber did not stand still
        self._looked = 0.0
        self._pause = LogPause()

    def follow(self, message: Batch | Turn, now: float) -> bool:
        """Return whether the start of a message is followed; `now` is monotonic, in seconds."""
        self._time += min(max(now - self._looked, 0.0), _LONGEST)
        self._looked = now
        start = message.start
        if start not in self._heard and not self._has_room():
            self._refuse(message, now)
            return False
        self._heard[start] = self._time
        self._heard.move_to_end(start)
        if isinstance(message, Turn) and message.ended:
            self._ended[start] = None
        return True

    def resume(self, starts: Mapping[str, bool]) -> list[str]:
        """Follow the starts of an earlier run, each with whether it is over; return those for which there is room."""
        kept = sorted(starts, key=starts.__getitem__)[: self._most]
        for start in kept:
            self._heard[start] = self._time
            if starts[start]:
                self._ended[start] = None
        return kept

    def _has_room(self) -> bool:
        """Make room for one more start, if there is none; return whether there is some."""
        if len(self._heard) < self._most:
            return True
        oldest = next(iter(self._ended), None)
        if oldest is None:
            oldest, heard = next(iter(self._heard.items()))
            if self._time - heard < VANISHED:
                return False
        del self._heard[oldest]
        self._ended.pop(oldest, None)
        self._forget(oldest)
        return True

    def _refuse(self, message: Batch | Turn, now: float) -> None:
        if isinstance(message, Batch):
            self._counters[REFUSED_EVENTS] += len(message.events)
        if message.start not in self._refused:
            self._counters["probes_refused"] += 1
        self._refused[message.start] = None
        self._refused.move_to_end(message.start)
        if len(self._refused) > self._most:
            self._refused.popitem(last=False)
        if self._pause.note(now):
            counted = {name: self._counters[name] for name in ("probes_refused", REFUSED_EVENTS)}
            structlog.get_logger().warning(
                "probe_refused", start=message.start, host=message.host, followed=self._most, **counted
            )
