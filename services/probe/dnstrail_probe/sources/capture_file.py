"""The source that reads a capture file."""

from __future__ import annotations

from collections import Counter

from dnstrail.events import NET_PACKET_DNS
from dnstrail_probe.formats.capture_reader import CaptureReader
from dnstrail_probe.formats.dnstap import read_dnstap
from dnstrail_probe.formats.packet import DNSTAP
from dnstrail_probe.options import CaptureOptions
from dnstrail_probe.packets.assembly import Assembly
from dnstrail_probe.source import LAST_TIME, Captures


class CaptureFileSource:
    """DNS messages out of a pcap or pcapng file (over UDP and TCP) or a dnstap file; CaptureError where it is none.

    A pcap or pcapng file also tells of the TCP connections that are opened in it.
    """

    live = False

    def __init__(self, path: str, options: CaptureOptions | None = None) -> None:
        self.name = f"capture file {path}"
        self.counters: Counter[str] = Counter()
        self._assembly = Assembly(options or CaptureOptions(), self.counters, connects=True)
        self._reader = CaptureReader(path)
        self._ended = False
        self._told = 0  # the last time that a dnstap message has told

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
            if linktype == DNSTAP:
                captures += self._dnstap(frame)
            elif 0 <= timestamp <= LAST_TIME:
                captures += self._assembly.frame(timestamp, linktype, frame)
            else:
                self.counters["bad_timestamp"] += 1
        return captures

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def _dnstap(self, frame: bytes) -> Captures:
        found = read_dnstap(frame, self._told)
        if isinstance(found, str):
            self.counters[found] += 1
            return []
        self._told = found.timestamp
        return [(NET_PACKET_DNS, found)]

    def _last(self) -> Captures | None:
        """What was waiting for more, once; then None."""
        if self._ended:
            return None
        self._ended = True
        if self._reader.damage:
            self.counters[self._reader.damage] = 1
        return self._assembly.finish() or None
