"""The server name in a TLS ClientHello (RFC 8446, sections 4.1.2 and 5.1; RFC 6066, section 3)."""

from __future__ import annotations

_RECORD_HEADER, _HANDSHAKE, _VERSION_MAJOR = 5, 22, 3
_MESSAGE_HEADER, _CLIENT_HELLO = 4, 1
_MOST_RECORDS = 1024  # the message is read again with each segment, so small records are bounded
_BEFORE_SESSION = 2 + 32  # version and random
_SERVER_NAME, _HOST_NAME = 0, 0


class Unreadable(Exception):
    """Bytes that are no ClientHello; the reader of the stream catches it."""


def read_client_hello(data: bytes | bytearray) -> bytes | None:
    """Return the server name at the start of a stream; b"" if there is none, None if more bytes are needed.

    Raises:
        Unreadable: the stream does not begin with a ClientHello.
    """
    message = _handshake(data)
    return None if message is None else _checked(message)


def read_handshake(data: bytes | bytearray) -> bytes | None:
    """Do as `read_client_hello` with a handshake that is not split into records, as in QUIC.

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


def _handshake(data: bytes | bytearray) -> bytes | None:
    """Return the first handshake message, which can span several records; None if it is incomplete."""
    message, at, records = b"", 0, 0
    while at + _RECORD_HEADER <= len(data):
        records += 1
        length = int.from_bytes(data[at + 3 : at + 5])
        if data[at] != _HANDSHAKE or data[at + 1] != _VERSION_MAJOR or not length or records > _MOST_RECORDS:
            raise Unreadable
        message += data[at + _RECORD_HEADER : at + _RECORD_HEADER + length]
        if message[0:1] not in (b"", bytes([_CLIENT_HELLO])):
            raise Unreadable
        end = _MESSAGE_HEADER + int.from_bytes(message[1:4])
        if len(message) >= max(end, _MESSAGE_HEADER):
            return message[_MESSAGE_HEADER:end]
        at += _RECORD_HEADER + length
    return None


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
