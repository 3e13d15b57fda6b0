"""Reads the server names that QUIC clients send in their first datagrams."""

from __future__ import annotations

from collections import Counter, OrderedDict

from dnstrail.captured import Captured
from dnstrail_probe.packets.server_names.client_hello import Unreadable, read_handshake
from dnstrail_probe.packets.server_names.quic_initial import Initial, Undecryptable, read_initials
from dnstrail_probe.packets.server_names.reader import FIRST_BYTES, SNI, ServerName, counted_name

OPEN = 512  #: QUIC clients whose first packets are remembered, for 10 s -> `server_name_incomplete`
IDLE = 10_000_000_000  # ns for which a client is remembered
#: frames of the ClientHello of a QUIC client -> `quic_unreadable`
PIECES = 64  # Chromium sends about ten
#: first datagrams of QUIC clients that are decrypted in a second -> `quic_over_rate`
RATE = 2_000  # each costs 60 to 300 us; a longer one counts once more for each `_PACKET`
_PACKET = 1_500  # bytes
_SECOND = 1_000_000_000

_Ends = tuple[bytes, int, bytes, int]


class QuicHellos:
    """The ClientHellos that are being put together; bounded in number, size and time.

    A ClientHello can be split over several packets, whose frames can arrive in any order. Its sender is remembered for
    `IDLE` longer, so that the Initial packets of its server, and later ones of its own, are not read.
    """

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._hellos: OrderedDict[_Ends, _Hello] = OrderedDict()
        self._second = self._decrypted = 0

    def add(self, event: Captured) -> list[tuple[Captured, ServerName]]:
        """Return the server names that a datagram completes, which can begin with an Initial packet."""
        self.expire(event.timestamp)
        flow = event.flow
        if flow is None or (flow.destination, flow.destination_port, flow.source, flow.source_port) in self._hellos:
            return []
        if not self._has_time(event):
            self._counters["quic_over_rate"] += 1
            return []
        return [
            (event, name)
            for name in self._names(event, (flow.source, flow.source_port, flow.destination, flow.destination_port))
        ]

    def expire(self, now: int) -> None:
        """Remove the clients that began too long ago, at a time in ns since the epoch."""
        while self._hellos and next(iter(self._hellos.values())).began < now - IDLE:
            self._remove_oldest()

    def finish(self) -> None:
        """Remove all clients at the end of the source."""
        while self._hellos:
            self._remove_oldest()

    def _names(self, event: Captured, ends: _Ends) -> list[ServerName]:
        known = self._hellos.get(ends)
        try:
            initials = read_initials(event.payload)
        except Undecryptable:
            if known is None:  # a known client uses the id that its server chose, but the keys of the first one
                self._counters["quic_undecryptable"] += 1
            return []
        return [name for initial in initials for name in self._name(initial, ends, event.timestamp)]

    def _name(self, initial: Initial, ends: _Ends, timestamp: int) -> list[ServerName]:
        hello = self._hellos.get(ends)
        if hello is None or hello.connection_id != initial.connection_id:
            hello = self._begin(initial.connection_id, ends, timestamp)
        if hello.done:
            return []
        try:
            stated = hello.take(initial.frames)
        except Unreadable:
            hello.end()
            self._counters["quic_unreadable"] += 1
            return []
        return [] if stated is None else counted_name(stated, SNI, self._counters)

    def _begin(self, connection_id: bytes, ends: _Ends, timestamp: int) -> _Hello:
        self._hellos.pop(ends, None)
        while len(self._hellos) >= OPEN:
            self._remove_oldest()
        hello = self._hellos[ends] = _Hello(connection_id, timestamp)
        return hello

    def _remove_oldest(self) -> None:
        _, hello = self._hellos.popitem(last=False)
        if not hello.done:
            self._counters["server_name_incomplete"] += 1

    def _has_time(self, event: Captured) -> bool:
        second = event.timestamp // _SECOND
        if second != self._second:
            self._second, self._decrypted = second, 0
        self._decrypted += 1 + len(event.payload) // _PACKET
        return self._decrypted <= RATE


class _Hello:
    """One ClientHello, and the pieces of it that have arrived."""

    __slots__ = ("_pieces", "began", "connection_id", "done")

    def __init__(self, connection_id: bytes, began: int) -> None:
        self.connection_id = connection_id
        self.began = began
        self.done = False
        self._pieces: dict[int, bytes] = {}

    def take(self, frames: list[tuple[int, bytes]] | None) -> bytes | None:
        """Return the server name once it is whole, b"" if it states none; None as long as bytes are missing.

        Raises:
            Unreadable: it is too large, in too many pieces or in a datagram of too many frames, or no ClientHello.
        """
        if frames is None:
            raise Unreadable
        for offset, data in frames:
            self._add(offset, data)
        stated = read_handshake(self._beginning())
        if stated is not None:
            self.end()
        return stated

    def end(self) -> None:
        """Take no more pieces, and hold none."""
        self.done = True
        self._pieces.clear()

    def _add(self, offset: int, data: bytes) -> None:
        if offset + len(data) > FIRST_BYTES or len(self._pieces) >= PIECES:
            raise Unreadable
        self._pieces[offset] = max(data, self._pieces.get(offset, b""), key=len)

    def _beginning(self) -> bytes:
        """Return the bytes from the start up to the first that is missing."""
        joined = bytearray()
        for offset, data in sorted(self._pieces.items()):
            if offset > len(joined):
                break
            joined += data[len(joined) - offset :]
        return bytes(joined)
