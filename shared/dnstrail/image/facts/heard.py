"""The times up to which the events of each host have arrived."""

from __future__ import annotations

from collections.abc import Mapping


class Heard:
    """The time `until` which all events have arrived (ns), and `behind` it the earlier times of some hosts.

    A host whose clock stands still delays what waits for its own events alone.
    """

    __slots__ = ("behind", "until")

    def __init__(self, until: int, behind: Mapping[str, int]) -> None:
        self.until = until
        self.behind = behind

    def of(self, host: str) -> int:
        """Return the time up to which the events of a host have arrived."""
        return self.behind.get(host, self.until) if self.behind else self.until
