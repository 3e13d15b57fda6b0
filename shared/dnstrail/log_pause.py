"""The pause of the log: a matter that repeats fills no disk with lines."""

from __future__ import annotations

#: seconds between two lines of the log on refused clients, messages or probes, or on losses -> the count of the next
#: line contains the others
EVERY = 10.0


class LogPause:
    """The pause between two lines of the log on one matter. `count` is how often it happened, logged or not."""

    __slots__ = ("_until", "count")

    def __init__(self) -> None:
        self.count = 0
        self._until = float("-inf")

    def note(self, now: float, times: int = 1) -> bool:
        """Count what happened; return whether a line is due. `now` is monotonic, in seconds."""
        self.count += times
        if now < self._until:
            return False
        self._until = now + EVERY
        return True
