"""Checks server names that clients send in clear: only a valid host name is evidence."""

from __future__ import annotations

import re
from collections import Counter

import msgspec

from dnstrail.dns.names import address_text

SNI, HOST = "sni", "host"
_LONGEST = 253
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)*(?!\d+$){_LABEL}")  # a last label of digits only is the end of an address
_PORT = re.compile(r":\d*$")


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
