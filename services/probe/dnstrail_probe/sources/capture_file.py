"""The source that reads a capture file."""

from __future__ import annotations

from collections import Counter
from types import MappingProxyType

from dnstrail.capture_options import CaptureOptions
from dnstrail.captured import LAST_TIME
from dnstrail.errors import CaptureError
from dnstrail.events import NET_PACKET_DNS
from dnstrail_probe.formats.capture_reader import CaptureReader
from dnstrail_probe.formats.dnstap import read_dnstap
from dnstrail_probe.formats.pcap import DNSTAP
from dnstrail_probe.packets.assembly import LOSSES, Assembly
from dnstrail_probe.source import Captures, Opening

_SECOND = 10**9  # ns
_LINK_TYPES = "no packet could be read (https://www.tcpdump.org/linktypes.html lists the types)"


def open_source(opening: Opening) -> CaptureFileSource:
    """Open the capture file at the path in the argument."""
    return CaptureFileSource(opening.argument, opening.options)


class CaptureFileSource:
    """The events of a pcap, pcapng or dnstap file: DNS messages, and the TCP connections opened in a pcap or pcapng.

    Invariant: every packet becomes an event or is counted by reason. A file is parsed without any capability.

    Raises:
        CaptureError: the file is no capture.
    """

    live = False
    descriptor = None
    capabilities = ()
    lost_by_cgroup = ()
    losses = MappingProxyType(LOSSES)

    def __init__(self, path: str, options: CaptureOptions | None = None) -> None:
        self.name = f"capture file {path}"
        self.counters: Counter[str] = Counter()
        self._path = path
        self._assembly = Assembly(options or CaptureOptions(), self.counters, connects=True)
        self._reader = CaptureReader(path)
        self._ended = False
        self._last_time = 0  # ns: the latest time that a dnstap message contained
        self._advanced = 0  # ns: the time up to which gaps were given up
        self._linktype = 0  # of the last packet

    @property
    def damage(self) -> str:
        """The damage that ended the reading, if any."""
        return self._reader.damage

    def read(self, timeout: float) -> Captures | None:
        """Return the next events, [] if none came in time, None at the end.

        Before that None, damage is counted as "file_cut_short" or "file_damaged".

        Raises:
            CaptureError: the file has ended, and no packet had a link type that can be decoded.
        """
        packets = self._reader.read(timeout)
        if packets is None:
            return self._finish()
        self.counters["packets"] += len(packets)
        captures: Captures = []
        for timestamp, linktype, frame in packets:
            self._linktype = linktype
            if linktype == DNSTAP:
                captures += self._read_dnstap(frame)
            elif 0 <= timestamp <= LAST_TIME:
                if timestamp - self._advanced >= _SECOND:
                    self._advanced = timestamp
                    captures += self._assembly.advance(timestamp)
                captures += self._assembly.frame(timestamp, linktype, frame)
            else:
                self.counters["bad_timestamp"] += 1
        return captures

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def _read_dnstap(self, frame: bytes) -> Captures:
        found = read_dnstap(frame, self._last_time)
        if isinstance(found, str):
            self.counters[found] += 1
            return []
        if found.timestamp > LAST_TIME:
            self.counters["bad_timestamp"] += 1
            return []
        self._last_time = found.timestamp
        return [(NET_PACKET_DNS, found)]

    def _finish(self) -> Captures | None:
        """Return the events that waited for further packets, once; then None."""
        if self._ended:
            return None
        self._ended = True
        if self._reader.damage:
            self.counters[self._reader.damage] = 1
        if 0 < self.counters["packets"] == self.counters["link_type_not_supported"]:
            raise CaptureError(self._path, f"link type {self._linktype} is not supported: {_LINK_TYPES}")
        return self._assembly.finish() or None
