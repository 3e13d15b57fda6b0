"""The source that reads a capture file."""

from __future__ import annotations

from collections import Counter

from dnstrail.events import NET_PACKET_DNS, Captured, Flow
from dnstrail_probe.capture_file import CaptureReader, Packet
from dnstrail_probe.captures import Captures
from dnstrail_probe.packet import dissect

DNS_PORTS = frozenset({53})

_LAST_TIME = (1 << 63) - 1  # what a signed 64-bit integer holds: the year 2262


class CaptureFile:
    """DNS messages over UDP out of a pcap or pcapng file; CaptureError where it is none."""

    live = False

    def __init__(self, path: str, ports: frozenset[int] = DNS_PORTS) -> None:
        self.name = f"capture file {path}"
        self.counters: Counter[str] = Counter()
        self._ports = ports
        self._reader = CaptureReader(path)

    def read(self, timeout: float) -> Captures | None:
        """The next messages; [] when there are none as yet; None at the end.

        A damaged end is counted as "file_cut_short" or "file_damaged" before that None.
        """
        packets = self._reader.read(timeout)
        if packets is None:
            self._count_damage()
            return None
        self.counters["packets"] += len(packets)
        return [(NET_PACKET_DNS, message) for packet in packets if (message := self._message(packet))]

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def _count_damage(self) -> None:
        if self._reader.damage:
            self.counters[self._reader.damage] = 1

    def _message(self, packet: Packet) -> Captured | None:
        timestamp, linktype, frame = packet
        found = dissect(linktype, frame, self._ports)
        if isinstance(found, str):
            reason = found
        elif not found.payload:
            reason = "empty_payload"
        elif not 0 <= timestamp <= _LAST_TIME:
            reason = "bad_timestamp"
        else:
            flow = Flow(found.source, found.source_port, found.destination, found.destination_port)
            return Captured(timestamp, found.payload, flow)
        self.counters[reason] += 1
        return None
