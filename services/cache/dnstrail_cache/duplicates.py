"""One packet that was seen on two sockets of this host, or twice on one, is one sighting."""

from __future__ import annotations

from collections import OrderedDict

from dnstrail.captured import Captured, Flow

WINDOW = 100_000_000  # ns within which the same bytes between the same ends are the same packet
MAX_REMEMBERED = 65536

_Key = tuple[bytes, bytes, int, bytes, int]


class DuplicateFilter:
    """The packets of the last tenth of a second, by what they say and between whom."""

    def __init__(self) -> None:
        self._seen: OrderedDict[_Key, tuple[int, int]] = OrderedDict()

    def is_copy(self, event: Captured) -> bool:
        """Whether this packet was noted a moment ago on another socket; a packet without a socket never is a copy.

        What one socket sends or receives twice was sent twice.
        """
        first = self._seen.get(_key(event.payload, event.flow)) if event.flow else None
        if first is None or event.flow is None or not event.flow.socket:
            return False
        return abs(event.timestamp - first[0]) <= WINDOW and first[1] != event.flow.socket

    def note(self, event: Captured) -> None:
        """Remember a packet by its socket."""
        if event.flow is None or not event.flow.socket:
            return
        key = _key(event.payload, event.flow)
        self._seen[key] = event.timestamp, event.flow.socket
        self._seen.move_to_end(key)
        if len(self._seen) > MAX_REMEMBERED:
            self._seen.popitem(last=False)


def _key(payload: bytes, flow: Flow) -> _Key:
    return payload, flow.source, flow.source_port, flow.destination, flow.destination_port
