"""The hosts that the HTTP/1 requests at the start of a stream state (RFC 9112)."""

from __future__ import annotations

import re

import msgspec

_LINE = rb"([A-Z]{3,16}) ([^ \r\n]+) HTTP/1\.\d\r?\n"
_FIRST_LINE = re.compile(_LINE)
_BEGINNING = 17  # bytes of a first line that has not ended: its longest method, and the space behind it
_FIRST_LINE_SO_FAR = re.compile(rb"[A-Z]{0,16}|[A-Z]{3,16} [^\n]*")
_HEAD = re.compile(_LINE + rb"((?:[^\r\n]+\r?\n)*)\r?\n")
_BLANK_LINE = re.compile(rb"\n\r?\n")
_HOST = re.compile(rb"^host:[ \t]*([^\r\n]*)", re.MULTILINE | re.IGNORECASE)
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d{1,9})[ \t]*\r?$", re.MULTILINE | re.IGNORECASE)
_NO_LENGTH = re.compile(rb"^(?:transfer-encoding|upgrade):", re.MULTILINE | re.IGNORECASE)


class _Request(msgspec.Struct, frozen=True):
    """A request: its Host (b"" if it has none or is for a proxy), and the offset of the next request (-1: unknown)."""

    host: bytes
    end: int


class HttpReader:
    """The reader of the requests at the start of a stream.

    `done` is set once no request can follow; if the head of the last one is malformed, its bytes are still held. A head
    is parsed when its blank line has arrived and each byte is searched once, however the stream is cut into segments.
    """

    def __init__(self) -> None:
        self.done = False
        self._buffer = bytearray()
        self._searched = 0  # bytes of the buffer that contain no whole head
        self._line_read = False  # the first line of the buffer is whole and valid
        self._skip = 0  # remaining bytes of a request's body

    @property
    def held(self) -> int:
        """Bytes of an incomplete or malformed head."""
        return len(self._buffer)

    def take(self, data: bytes) -> list[bytes]:
        """Return the hosts of the requests whose heads these bytes complete; b"" for one that states none."""
        self._buffer += data[self._skip :]
        self._skip = max(0, self._skip - len(data))
        hosts: list[bytes] = []
        while self._buffer and not self.done and self._has_head():
            request = _read(self._buffer)
            if request is None:
                self.done = True
                break
            hosts.append(request.host)
            self._remove(request)
        return hosts

    def _has_head(self) -> bool:
        """Return true if the buffer begins with a whole head; end the search if it begins with no request."""
        if not self._line_read:
            if self._buffer.find(b"\n", self._searched) >= 0:
                valid = self._line_read = bool(_FIRST_LINE.match(self._buffer))
            else:
                valid = bool(_FIRST_LINE_SO_FAR.fullmatch(self._buffer[:_BEGINNING]))
            if not valid:
                self._end()
                return False
        found = _BLANK_LINE.search(self._buffer, max(0, self._searched - 2))
        self._searched = len(self._buffer)
        return found is not None

    def _remove(self, request: _Request) -> None:
        """Remove a request from the buffer, with its body."""
        if request.end < 0:
            self._end()
            return
        self._skip = max(0, request.end - len(self._buffer))
        del self._buffer[: request.end]
        self._searched, self._line_read = 0, False

    def _end(self) -> None:
        self.done = True
        self._buffer.clear()


def _read(data: bytearray) -> _Request | None:
    """Return the request at the start of the data; None if its head is malformed."""
    head = _HEAD.match(data)
    if head is None:
        return None
    method, target, fields = head.groups()
    host = _HOST.search(fields)
    to_proxy = method == b"CONNECT" or not target.startswith((b"/", b"*"))  # then the host is not the peer
    length = _LENGTH.search(fields)
    ends = not to_proxy and _NO_LENGTH.search(fields) is None
    end = head.end() + (int(length[1]) if length else 0)
    return _Request(b"" if host is None or to_proxy else host[1], end if ends else -1)
