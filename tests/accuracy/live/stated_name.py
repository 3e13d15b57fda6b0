"""The name in the first bytes of a connection: the server name of TLS, or the host of HTTP. Read by dpkt."""

from __future__ import annotations

import struct

import dpkt
from dpkt.http import Request
from dpkt.ssl import TLSClientHello, TLSHandshake, tls_multi_factory

_HANDSHAKE, _SERVER_NAME = 22, 0


def stated_name(data: bytes) -> str:
    """Return the name, in lower case; "" if there is none (yet)."""
    name = _server_name(data) if data[:1] == bytes([_HANDSHAKE]) else _host(data)
    return name.lower()


def _server_name(data: bytes) -> str:
    try:
        records, _ = tls_multi_factory(data)
        handshake = TLSHandshake(b"".join(record.data for record in records if record.type == _HANDSHAKE))
    except (dpkt.Error, struct.error):  # more bytes follow
        return ""
    hello = handshake.data
    found = dict(getattr(hello, "extensions", [])) if isinstance(hello, TLSClientHello) else {}
    return found[_SERVER_NAME][5:].decode() if _SERVER_NAME in found else ""


def _host(data: bytes) -> str:
    if b"\r\n\r\n" not in data:
        return ""
    try:
        return str(Request(data).headers.get("host", "")).partition(":")[0]
    except dpkt.Error:
        return ""
