"""Reads server names at the start of a TCP stream: from its ClientHello, or from its HTTP requests."""

from __future__ import annotations

from collections import Counter

from dnstrail_probe.packets.server_names.client_hello import Unreadable, read_client_hello
from dnstrail_probe.packets.server_names.http_request import may_be_request, read_request
from dnstrail_probe.packets.server_names.server_name import HOST, SNI, ServerName, counted_name
from dnstrail_probe.packets.tcp_stream import Arrival

FIRST_BYTES = 16 << 10  #: bytes of a connection for server names -> `server_name_incomplete`
_TLS_HANDSHAKE = 0x16


class ServerNameReader:
    """The reader of the first bytes of one stream; it never holds more than `FIRST_BYTES`.

    `done` is set once nothing more can be found. Streams of servers contain no names, so they are done at once.
    """

    def __init__(self, counters: Counter[str]) -> None:
        self.done = False
        self._counters = counters
        self._buffer = bytearray()
        self._room = FIRST_BYTES
        self._skip = 0  # remaining bytes of a request's body

    @property
    def held(self) -> int:
        """Bytes of an incomplete message."""
        return len(self._buffer)

    def take(self, data: bytes, arrival: Arrival) -> list[tuple[int, ServerName]]:
        """Return the names that these bytes complete."""
        if self.done:
            return []
        data = data[: self._room]
        self._room -= len(data)
        self._buffer += data[self._skip :]
        self._skip = max(0, self._skip - len(data))
        found = self._read() if self._buffer else []
        if self._room <= 0:
            self._give_up()
        return [(arrival.timestamp, name) for name in found]

    def skip(self) -> None:
        """End the search: bytes after a gap are not searched."""
        self._give_up()

    def _read(self) -> list[ServerName]:
        try:
            return self._hello() if self._buffer[0] == _TLS_HANDSHAKE else self._requests()
        except Unreadable:  # for example the stream of a server
            self._end()
            return []

    def _hello(self) -> list[ServerName]:
        stated = read_client_hello(self._buffer)
        if stated is None:
            return []
        self._end()
        return counted_name(stated, SNI, self._counters)

    def _requests(self) -> list[ServerName]:
        found: list[ServerName] = []
        while not self.done and self._buffer:
            if not may_be_request(self._buffer):
                self._end()
                break
            request = read_request(self._buffer)
            if request is None:
                break
            found += counted_name(request.host, HOST, self._counters)
            if request.end < 0:
                self._end()
            self._skip = max(0, request.end - len(self._buffer))
            del self._buffer[: request.end]
        return found

    def _give_up(self) -> None:
        """End the search, and count an incomplete message."""
        if self._buffer:
            self._counters["server_name_incomplete"] += 1
        self._end()

    def _end(self) -> None:
        self.done = True
        self._buffer.clear()
