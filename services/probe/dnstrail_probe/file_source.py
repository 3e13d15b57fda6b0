"""The source that reads a capture file."""

from __future__ import annotations

from collections import Counter

from dnstrail_probe.assembly import Assembly
from dnstrail_probe.capture_file import CaptureReader
from dnstrail_probe.captures import Captures
from dnstrail_probe.watched import Watched

_LAST_TIME = (1 << 63) - 1  # what a signed 64-bit integer holds: the year 2262


class CaptureFile:
    """DNS messages over UDP and TCP out of a pcap or pcapng file; CaptureError where it is none."""

    live = False

    def __init__(self, path: str, watched: Watched | None = None) -> None:
        self.name = f"capture file {path}"
        self.counters: Counter[str] = Counter()
        self._assembly = Assembly(watched or Watched(), self.counters)
        self._reader = CaptureReader(path)
        self._ended = False

    def read(self, timeout: float) -> Captures | None:
        """The next messages; [] when there are none as yet; None at the end.

        A damaged end is counted as "file_cut_short" or "file_damaged" before that None.
        """
        packets = self._reader.read(timeout)
        if packets is None:
            return self._last()
        self.counters["packets"] += len(packets)
        captures: Captures = []
        for timestamp, linktype, frame in packets:
            if 0 <= timestamp <= _LAST_TIME:
                captures += self._assembly.frame(timestamp, linktype, frame)
            else:
                self.counters["bad_timestamp"] += 1
        return captures

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def _last(self) -> Captures | None:
        """What was waiting for more, once; then None."""
        if self._ended:
            return None
        self._ended = True
        if self._reader.damage:
            self.counters[self._reader.damage] = 1
        return self._assembly.finish() or None
