"""Reads server names at the start of a TCP stream: from its ClientHello, or from its HTTP/1 requests (RFC 9112)."""

from __future__ import annotations

import re
from collections import Counter

import msgspec

from dnstrail.dns.names import address_text
from dnstrail_probe.packets.server_names.client_hello import Unreadable, read_client_hello
from dnstrail_probe.packets.tcp_stream import Arrival

SNI, HOST = "sni", "host"
_LONGEST = 253
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)*(?!\d+$){_LABEL}")  # a last label of digits only is the end of an address
_PORT = re.compile(r":\d*$")
_LINE = rb"([A-Z]{3,16}) ([^ \r\n]+) HTTP/1\.\d\r?\n"
_FIRST_LINE = re.compile(_LINE)
_FIRST_LINE_SO_FAR = re.compile(rb"[A-Z]{0,16}|[A-Z]{3,16} [^\n]*")
_HEAD = re.compile(_LINE + rb"((?:[^\r\n]+\r?\n)*)\r?\n")
_HOST = re.compile(rb"^host:[ \t]*([^\r\n]*)", re.MULTILINE | re.IGNORECASE)
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d{1,9})[ \t]*\r?$", re.MULTILINE | re.IGNORECASE)
_NO_LENGTH = re.compile(rb"^(?:transfer-encoding|upgrade):", re.MULTILINE | re.IGNORECASE)
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


class HttpRequest(msgspec.Struct, frozen=True):
    """A request: its Host (b"" if it has none or is for a proxy), and the offset of the next request (-1: unknown)."""

    host: bytes
    end: int


def may_be_request(data: bytes | bytearray) -> bool:
    """Return true if a request can begin with these bytes."""
    return bool(_FIRST_LINE.match(data) or _FIRST_LINE_SO_FAR.fullmatch(data))


def read_request(data: bytes | bytearray) -> HttpRequest | None:
    """Return the request at the start of the data; None if its head is incomplete or malformed."""
    head = _HEAD.match(data)
    if head is None:
        return None
    method, target, fields = head.groups()
    host = _HOST.search(fields)
    to_proxy = method == b"CONNECT" or not target.startswith((b"/", b"*"))  # then the host is not the peer
    length = _LENGTH.search(fields)
    ends = not to_proxy and _NO_LENGTH.search(fields) is None
    end = head.end() + (int(length[1]) if length else 0)
    return HttpRequest(b"" if host is None or to_proxy else host[1], end if ends else -1)


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
