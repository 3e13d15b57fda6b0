"""The Host of an HTTP/1 request (RFC 9112, sections 2 to 6)."""

from __future__ import annotations

import re

import msgspec

_LINE = rb"([A-Z]{3,16}) ([^ \r\n]+) HTTP/1\.\d\r?\n"
_FIRST_LINE = re.compile(_LINE)
_FIRST_LINE_SO_FAR = re.compile(rb"[A-Z]{0,16}|[A-Z]{3,16} [^\n]*")
_HEAD = re.compile(_LINE + rb"((?:[^\r\n]+\r?\n)*)\r?\n")
_HOST = re.compile(rb"^host:[ \t]*([^\r\n]*)", re.MULTILINE | re.IGNORECASE)
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d{1,9})[ \t]*\r?$", re.MULTILINE | re.IGNORECASE)
_NO_LENGTH = re.compile(rb"^(?:transfer-encoding|upgrade):", re.MULTILINE | re.IGNORECASE)


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
