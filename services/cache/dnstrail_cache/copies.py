"""One packet that was seen on two sockets of this host, or twice on one, is one sighting."""

from __future__ import annotations

from collections import OrderedDict

from dnstrail.events import Captured

WINDOW = 100_000_000  # ns within which the same bytes between the same ends are the same packet
MAX_REMEMBERED = 65536

_Key = tuple[bytes, bytes, int, bytes, int]


class Copies:
    """The packets of the last tenth of a second, by what they say and between whom."""

    def __init__(self) -> None:
        self._seen: OrderedDict[_Key, tuple[int, int]] = OrderedDict()

    def is_copy(self, event: Captured) -> bool:
        """Whether this packet was seen a moment ago on another socket; a packet without a socket never is a copy.

        What one socket sends or receives twice was sent twice.
        """
        flow = event.flow
        if flow is None or not flow.socket:
            return False
        key = (event.payload, flow.source, flow.source_port, flow.destination, flow.destination_port)
        first = self._seen.get(key)
        if first is not None and abs(event.timestamp - first[0]) <= WINDOW and first[1] != flow.socket:
            return True
        self._seen[key] = event.timestamp, flow.socket
        self._seen.move_to_end(key)
        if len(self._seen) > MAX_REMEMBERED:
            self._seen.popitem(last=False)
        return False
