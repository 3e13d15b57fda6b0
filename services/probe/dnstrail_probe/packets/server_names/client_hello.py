"""The server name in a TLS ClientHello (RFC 8446, sections 4.1.2 and 5.1; RFC 6066, section 3)."""

from __future__ import annotations

_RECORD_HEADER, _HANDSHAKE, _VERSION_MAJOR = 5, 22, 3
_MESSAGE_HEADER, _CLIENT_HELLO = 4, 1
_BEFORE_SESSION = 2 + 32  # version and random
_SERVER_NAME, _HOST_NAME = 0, 0


class Unreadable(Exception):
    """Bytes that are no ClientHello; its reader catches it."""


class HelloReader:
    """The reader of a ClientHello at the start of a stream, which can span several records.

    `done` is set once its name was read, or the stream turned out to begin with no ClientHello. Each byte is read once,
    however the stream is cut into segments.
    """

    def __init__(self) -> None:
        self.done = False
        self._header = bytearray()  # of the current record
        self._remaining = 0  # bytes of the current record that are missing
        self._message = bytearray()

    @property
    def held(self) -> int:
        """Bytes of an incomplete ClientHello."""
        return len(self._header) + len(self._message)

    def take(self, data: bytes) -> list[bytes]:
        """Return the server name, if these bytes complete the ClientHello; b"" if it states none."""
        try:
            stated = self._read(data)
        except Unreadable:  # for example the stream of a server
            self._end()
            return []
        if stated is None:
            return []
        self._end()
        return [stated]

    def _read(self, data: bytes) -> bytes | None:
        at = 0
        while at < len(data):
            if self._remaining:
                part = data[at : at + self._remaining]
                self._message += part
                self._remaining -= len(part)
                if (stated := read_handshake(self._message)) is not None:
                    return stated
            else:
                part = data[at : at + _RECORD_HEADER - len(self._header)]
                self._read_header(part)
            at += len(part)
        return None

    def _read_header(self, part: bytes) -> None:
        """Add a part of the header of a record; the last one yields the length of the record."""
        self._header += part
        if len(self._header) < _RECORD_HEADER:
            return
        self._remaining = int.from_bytes(self._header[3:])
        if self._header[0] != _HANDSHAKE or self._header[1] != _VERSION_MAJOR or not self._remaining:
            raise Unreadable
        self._header.clear()

    def _end(self) -> None:
        self.done = True
        self._header.clear()
        self._message.clear()


def read_handshake(data: bytes | bytearray) -> bytes | None:
    """Return the server name in the ClientHello of a handshake; b"" if there is none, None if more bytes are needed.

    Raises:
        Unreadable: the handshake does not begin with a ClientHello.
    """
    if data[0:1] not in (b"", bytes([_CLIENT_HELLO])):
        raise Unreadable
    end = _MESSAGE_HEADER + int.from_bytes(data[1:4])
    return _checked(bytes(data[_MESSAGE_HEADER:end])) if len(data) >= max(end, _MESSAGE_HEADER) else None


def _checked(message: bytes) -> bytes:
    try:
        return _server_name(message)
    except IndexError:
        raise Unreadable from None


def _server_name(message: bytes) -> bytes:
    at = _BEFORE_SESSION
    at += 1 + message[at]  # the session
    at += 2 + _uint16(message, at)  # the cipher suites
    at += 1 + message[at]  # the compression methods
    if at == len(message):
        return b""  # no extensions
    at += 2
    while at < len(message):
        kind, length = _uint16(message, at), _uint16(message, at + 2)
        if kind == _SERVER_NAME:
            return _first_name(message[at + 4 : at + 4 + length])
        at += 4 + length
    return b""


def _first_name(names: bytes) -> bytes:
    if names[2] != _HOST_NAME:
        return b""
    length = _uint16(names, 3)
    if len(names) < 5 + length:
        raise IndexError
    return names[5 : 5 + length]


def _uint16(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1]
