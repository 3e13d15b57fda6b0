"""The duplicate filter: one packet that was captured at two sockets of this host is one sighting."""

from __future__ import annotations

from collections import OrderedDict

from dnstrail.captured import Captured

WINDOW = 100_000_000  # ns within which the same bytes between the same ends are the same packet
MAX_REMEMBERED = 65536


class DuplicateFilter:
    """The packets of the last tenth of a second, each with the socket at which it was captured.

    Memory is bounded whatever arrives: the filter holds a hash of payload and flow instead of their bytes, evicts what
    is older than the window, and holds at most 65,536 packets. A packet without a known socket is never a copy.
    """

    def __init__(self) -> None:
        self._packets: OrderedDict[int, tuple[int, int]] = OrderedDict()  # hash -> time stamp, socket; oldest first

    def __len__(self) -> int:
        return len(self._packets)

    def is_copy(self, event: Captured) -> bool:
        """Return whether this packet was noted a moment ago at another socket.

        The same bytes at the same socket are two packets: the socket sent or received both.
        """
        socket = event.flow.socket if event.flow else 0
        first = self._packets.get(_digest(event)) if socket else None
        return first is not None and abs(event.timestamp - first[0]) <= WINDOW and first[1] != socket

    def note(self, event: Captured) -> None:
        """Remember a packet, and evict those before the window."""
        if event.flow is None or not event.flow.socket:
            return
        packets, digest = self._packets, _digest(event)
        packets[digest] = event.timestamp, event.flow.socket
        packets.move_to_end(digest)
        while len(packets) > MAX_REMEMBERED or abs(event.timestamp - next(iter(packets.values()))[0]) > WINDOW:
            packets.popitem(last=False)


def _digest(event: Captured) -> int:
    flow = event.flow
    ends = (flow.source, flow.source_port, flow.destination, flow.destination_port) if flow else ()
    return hash((event.payload, ends))
