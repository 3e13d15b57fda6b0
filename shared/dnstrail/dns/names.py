"""The one form of names and addresses in the image and in lookups (docs/inside/image.md)."""

from __future__ import annotations

import re
from functools import lru_cache
from socket import AF_INET6, inet_ntop, inet_pton
from typing import Final

ROOT: Final = "."
V4_MAPPED: Final = bytes(10) + b"\xff\xff"  # before an IPv4 address in IPv6 form (RFC 4291, section 2.5.5.2)
# Bytes that dnspython's text form of a label leaves as they are, without upper case.
PLAIN: Final = bytes(c for c in range(0x21, 0x7F) if c not in b'"().;\\@$' and not chr(c).isupper())
_ESCAPED: Final = [  # as in dnspython's text form, by the byte in lower case
    chr(c) if c in PLAIN else f"\\{chr(c)}" if c in b'"().;\\@$' else f"\\{c:03d}" for c in range(256)
]
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_USUAL_KEY: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")  # a name in our form, or an address
_MAX_LITERAL: Final = 45  # characters of an address (INET6_ADDRSTRLEN)
_MAX_TEXT: Final = 253  # characters of a name whose labels need no escapes (RFC 1035, section 2.3.4)
_V4_SUFFIX: Final = ".in-addr.arpa"
_V6_SUFFIX: Final = ".ip6.arpa"
_ARPA: Final = ".arpa"
_PACKED_LENGTHS: Final = (4, 16)
_NIBBLES: Final = frozenset("0123456789abcdef")
_DECIMAL: Final = [str(octet) for octet in range(256)]
_OCTETS: Final = frozenset(_DECIMAL)


def label_text(label: bytes) -> str:
    """Return a label as text: ASCII-lower-cased, with odd bytes and dots escaped as in dnspython's text form."""
    label = label.lower()
    if not label.translate(None, PLAIN):
        return label.decode("ascii")
    return "".join(map(_ESCAPED.__getitem__, label))


@lru_cache(maxsize=2048)
def packed_address_text(packed: bytes) -> str:
    """Return the canonical text (RFC 5952) of 4 or 16 packed bytes; IPv4-mapped IPv6 is written as IPv4."""
    if len(packed) == 4:
        return v4_text(packed)
    if packed.startswith(V4_MAPPED):
        return v4_text(packed[len(V4_MAPPED) :])
    text = inet_ntop(AF_INET6, packed)
    if "." in text:  # an IPv4-compatible address, which the C library writes with dots
        return f"::{packed[12] << 8 | packed[13]:x}:{packed[14] << 8 | packed[15]:x}"
    return text


def v4_text(packed: bytes) -> str:
    """Return the text of 4 packed bytes."""
    return f"{_DECIMAL[packed[0]]}.{_DECIMAL[packed[1]]}.{_DECIMAL[packed[2]]}.{_DECIMAL[packed[3]]}"


def known_address(packed: bytes) -> str:
    """Return a packed address as text; "" if it is all zero or no address, as sources write an unknown address."""
    return packed_address_text(packed) if any(packed) and len(packed) in _PACKED_LENGTHS else ""


def address_text(text: str) -> str | None:
    """Return the canonical text of an address literal, without brackets and zone; None for any other text."""
    if text[-1:] == "]" and text[0] == "[":
        text = text[1:-1]
    if ":" not in text and not text[-1:].isdigit():
        return None  # most names end here
    text = text.partition("%")[0]
    return _literal(text) if len(text) <= _MAX_LITERAL else None


def is_reverse(name: str) -> bool:
    """Return whether a name in our form is in-addr.arpa, ip6.arpa, or lies below them."""
    if not name.endswith(_ARPA):
        return False  # most names end here
    return name.endswith((_V4_SUFFIX, _V6_SUFFIX)) or name in {_V4_SUFFIX[1:], _V6_SUFFIX[1:]}


def reverse_address(name: str) -> str | None:
    """Return the address that a reverse name in our form encodes (RFC 1035 3.5, RFC 3596 2.5), or None."""
    if name.endswith(_V4_SUFFIX):
        labels = name[: -len(_V4_SUFFIX)].split(".")
        if _are_octets(labels):
            return ".".join(reversed(labels))
        return None
    if name.endswith(_V6_SUFFIX):
        labels = name[: -len(_V6_SUFFIX)].split(".")
        if len(labels) == 32 and _NIBBLES.issuperset(labels):
            return packed_address_text(bytes.fromhex("".join(reversed(labels))))
    return None


def is_node(name: str) -> bool:
    """Return whether a name may be owner or target of a relation: it is no literal, reverse name or root."""
    if ":" not in name and name[-1:].isalpha():  # most names are no literals
        return not is_reverse(name)
    return name != ROOT and address_text(name) is None and not is_reverse(name)


def lookup_key(key: str) -> str | None:
    """Convert the key of a lookup to the form of the image; return None if it is neither a name nor an address.

    Accept addresses in any spelling (`[2606:4700::1]`, `::ffff:1.1.1.1`, ` 1.1.1.1`), reverse names, and names in any
    case, with a trailing dot, with dnspython's escapes, or in Unicode (IDNA).
    """
    if len(key) <= _MAX_TEXT and _USUAL_KEY.fullmatch(key) and not key[-1].isdigit() and not key.endswith(".arpa"):
        return key
    key = key.strip()
    if address := address_text(key):
        return address
    name = name_text(key)
    if name is None:
        return None
    if address := address_text(name):  # an address with a trailing dot
        return address
    if is_reverse(name):
        return reverse_address(name)
    return name or None


def name_text(key: str) -> str | None:
    """Convert a name in any spelling to our form, also a reverse one; return None if it is no name, "" for the root."""
    if len(key) <= _MAX_TEXT and _HOST_NAME.fullmatch(key):
        return key.removesuffix(".").lower()
    from dnstrail.dns.unusual_name import labels_of  # noqa: PLC0415 - imports dnspython, which few keys need

    labels = labels_of(key)
    return None if labels is None else ".".join(map(label_text, labels))


def _are_octets(labels: list[str]) -> bool:
    """Return whether labels are the four numbers of an IPv4 address."""
    return len(labels) == 4 and _OCTETS.issuperset(labels)


@lru_cache(maxsize=16384)
def _literal(text: str) -> str | None:
    if ":" not in text:
        return text if _are_octets(text.split(".")) else None
    try:
        return packed_address_text(inet_pton(AF_INET6, text))
    except (OSError, ValueError):
        return None
