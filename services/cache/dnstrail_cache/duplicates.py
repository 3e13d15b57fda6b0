"""The duplicate filter: one packet that was captured at two sockets of this host is one sighting."""

from __future__ import annotations

from dnstrail.captured import Captured, Flow

WINDOW = 100_000_000  # ns within which the same bytes between the same ends are the same packet
MAX_REMEMBERED = 65536


class DuplicateFilter:
    """The packets of at least the last tenth of a second, each with the socket at which it was captured.

    Memory is bounded whatever arrives: the filter holds a hash of payload and flow instead of their bytes, in two
    halves. A half that is older than the window, or that holds 32,768 packets, replaces the older half. A packet
    without a known socket is never a copy.
    """

    def __init__(self) -> None:
        self._young: dict[int, tuple[int, int]] = {}  # hash -> time stamp, socket
        self._old: dict[int, tuple[int, int]] = {}
        self._young_until = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def is_copy(self, event: Captured) -> bool:
        """Return whether this packet was noted a moment ago at another socket.

        The same bytes at the same socket are two packets: the socket sent or received both.
        """
        flow = event.flow
        if flow is None or not flow.socket:
            return False
        digest = _digest(event.payload, flow)
        first = self._young.get(digest) or self._old.get(digest)
        return first is not None and abs(event.timestamp - first[0]) <= WINDOW and first[1] != flow.socket

    def note(self, event: Captured) -> None:
        """Remember a packet, and forget the older half once the younger one is past the window or full."""
        flow, stamp = event.flow, event.timestamp
        if flow is None or not flow.socket:
            return
        if stamp > self._young_until or len(self._young) >= MAX_REMEMBERED // 2:
            self._old, self._young, self._young_until = self._young, {}, stamp + WINDOW
        self._young[_digest(event.payload, flow)] = stamp, flow.socket


def _digest(payload: bytes, flow: Flow) -> int:
    return hash((payload, flow.source, flow.source_port, flow.destination, flow.destination_port))
