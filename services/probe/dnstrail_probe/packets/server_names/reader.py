"""Reads server names at the start of a TCP stream: from its ClientHello, or from its HTTP/1 requests."""

from __future__ import annotations

import re
from collections import Counter

import msgspec

from dnstrail.dns.names import address_text
from dnstrail_probe.packets.server_names.client_hello import HelloReader
from dnstrail_probe.packets.server_names.http_requests import HttpReader
from dnstrail_probe.packets.tcp_stream import Arrival

SNI, HOST = "sni", "host"
_LONGEST = 253
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)*(?!\d+$){_LABEL}")  # a last label of digits only is the end of an address
_PORT = re.compile(r":\d*$")
FIRST_BYTES = 16 << 10  #: bytes of a connection for server names -> `server_name_incomplete`
_TLS_HANDSHAKE = 0x16


class ServerName(msgspec.Struct, frozen=True):
    """A name, lower-cased and without a trailing dot, and its evidence: "sni" or "host"."""

    name: str
    evidence: str


def server_name(stated: bytes, evidence: str) -> ServerName | str:
    """Return the name in a TLS extension or a Host header, or the reason why it is invalid."""
    text = stated.decode("ascii", "replace").strip().lower()
    if evidence == HOST:
        text = _PORT.sub("", text)
    text = text.removesuffix(".")
    if address_text(text):
        return "server_name_is_address"
    if len(text) > _LONGEST or not _NAME.fullmatch(text):
        return "server_name_invalid"
    return ServerName(text, evidence)


def counted_name(stated: bytes, evidence: str, counters: Counter[str]) -> list[ServerName]:
    """Return the name that a client stated, if it stated a valid one; else count the reason."""
    found = server_name(stated, evidence) if stated else "server_name_none"
    if isinstance(found, str):
        counters[found] += 1
        return []
    return [found]


class ServerNameReader:
    """The reader of the first bytes of one stream; it never holds more than `FIRST_BYTES`.

    `done` is set once nothing more can be found. Streams of servers contain no names, so they are done at once. The
    first byte decides the protocol.
    """

    def __init__(self, counters: Counter[str]) -> None:
        self.done = False
        self._counters = counters
        self._reader: HelloReader | HttpReader | None = None
        self._room = FIRST_BYTES

    @property
    def held(self) -> int:
        """Bytes of an incomplete message."""
        return self._reader.held if self._reader else 0

    def take(self, data: bytes, arrival: Arrival) -> list[tuple[int, ServerName]]:
        """Return the names that these bytes complete."""
        if self.done or not data:
            return []
        if self._reader is None:
            self._reader = HelloReader() if data[0] == _TLS_HANDSHAKE else HttpReader()
        evidence = SNI if isinstance(self._reader, HelloReader) else HOST
        stated = self._reader.take(data[: self._room])
        self._room -= len(data)
        found = [name for one in stated for name in counted_name(one, evidence, self._counters)]
        if self._reader.done or self._room <= 0:
            self._give_up()
        return [(arrival.timestamp, name) for name in found]

    def skip(self) -> None:
        """End the search: bytes after a gap are not searched."""
        self._give_up()

    def _give_up(self) -> None:
        """End the search, and count an incomplete message."""
        if self.held:
            self._counters["server_name_incomplete"] += 1
        self.done = True
        self._reader = None
