"""What a source yields: events, each with its name."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from dnstrail.captured import Captured

Captures = list[tuple[str, Captured]]
LAST_TIME = (1 << 63) - 1  # ns since the epoch, as a signed 64-bit integer holds it: the year 2262

CUT_SHORT, DAMAGED = "file_cut_short", "file_damaged"  # damage of a capture file


class Source(Protocol):
    """What the probe reads events from."""

    name: str  # what it is, for people: "capture file x.pcap"
    live: bool  # False: a file; its clock is the stream's, and it may be made to wait
    counters: Counter[str]  # packets seen, and everything passed over, by reason

    def read(self, timeout: float) -> Captures | None:
        """The next events, each with its name, about a thousand at most; None at the end, and from then on.

        [] when none came, after `timeout` seconds at the latest.
        """

    def close(self) -> None:
        """Give back what the source holds; harmless when repeated."""
