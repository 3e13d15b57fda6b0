"""The result of getaddrinfo(3) written as DNS responses (RFC 1035, section 4.1)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from contextlib import suppress

import dns.name
import dns.rcode
import dns.rdatatype

from dnstrail.dns.names import V4_MAPPED, is_node

_TTL = 0  # getaddrinfo returns no TTL: a relation lives for the grace alone
# Return value (netdb.h of glibc and musl) -> its name, and the DNS response code that means the same.
_OUTCOMES = {
    0: ("success", dns.rcode.NOERROR),
    -2: ("EAI_NONAME", dns.rcode.NXDOMAIN),
    -3: ("EAI_AGAIN", dns.rcode.SERVFAIL),
    -4: ("EAI_FAIL", dns.rcode.SERVFAIL),
    -5: ("EAI_NODATA", dns.rcode.NOERROR),
    -9: ("EAI_ADDRFAMILY", dns.rcode.NOERROR),
}
_A, _AAAA = int(dns.rdatatype.A), int(dns.rdatatype.AAAA)
_REQUESTED: dict[int, tuple[int, ...]] = {socket.AF_INET: (_A,), socket.AF_INET6: (_AAAA,)}
_BOTH = (_A, _AAAA)
_KINDS = {4: _A, 16: _AAAA}  # bytes of an address -> type of its record
_HEADER = struct.Struct("!6H")
_QUESTION = struct.Struct("!2H")
_RECORD = struct.Struct("!3HIH")
_FLAGS = 0x8180  # a response, recursion desired and available
_IN = 1
_OWNER = 0xC00C  # a pointer to the name in the question


def outcome(error: int) -> str:
    """Return the name of a return value; "" for an error that is not about the name (RFC 3493, section 6.1)."""
    return _OUTCOMES[error][0] if error in _OUTCOMES else ""


def responses(name: str, addresses: Iterable[bytes], error: int, family: int) -> list[bytes]:
    """Return one response for each kind of address in the result; on an error, one for each kind that was requested.

    `name` is a lookup key, `error` a return value that has an outcome, `family` the family in the hints (AF_UNSPEC: 0).
    An address literal yields no response.
    """
    if not is_node(name) or _is_number(name):
        return []
    found: dict[int, list[bytes]] = {}
    for address in addresses:
        packed = address.removeprefix(V4_MAPPED)
        found.setdefault(_KINDS[len(packed)], []).append(packed)
    owner, code = dns.name.from_text(name).to_wire() or b"", int(_OUTCOMES[error][1])
    kinds = _REQUESTED.get(family, _BOTH) if error else found
    return [_response(owner, kind, found.get(kind, []), code) for kind in kinds]


def _response(owner: bytes, kind: int, addresses: list[bytes], code: int) -> bytes:
    records = [_RECORD.pack(_OWNER, kind, _IN, _TTL, len(address)) + address for address in addresses]
    head = _HEADER.pack(0, _FLAGS | code, 1, len(records), 0, 0)
    return head + owner + _QUESTION.pack(kind, _IN) + b"".join(records)


def _is_number(name: str) -> bool:
    """Return true for an IPv4 address in an older spelling, which getaddrinfo accepts: 127.1, 0x7f.1, 1."""
    with suppress(OSError):
        return bool(socket.inet_aton(name))
    return False
