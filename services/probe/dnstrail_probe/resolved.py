"""What getaddrinfo(3) told a program, as the DNS messages that would have told it."""

from __future__ import annotations

import socket
from collections.abc import Iterable

import dns.message
import dns.name
import dns.rcode
import dns.rrset

from dnstrail.names import is_node, packed_address_text

_TTL = 0  # of an answer that tells none: it counts for the grace alone
# What it returned (netdb.h of glibc and musl) -> how that is called, and the code that DNS has for it.
_OUTCOMES = {
    0: ("success", dns.rcode.NOERROR),
    -2: ("EAI_NONAME", dns.rcode.NXDOMAIN),
    -3: ("EAI_AGAIN", dns.rcode.SERVFAIL),
    -4: ("EAI_FAIL", dns.rcode.SERVFAIL),
    -5: ("EAI_NODATA", dns.rcode.NOERROR),
    -9: ("EAI_ADDRFAMILY", dns.rcode.NOERROR),
}
_ASKED: dict[int, list[str]] = {socket.AF_INET: ["A"], socket.AF_INET6: ["AAAA"]}
_BOTH = ["A", "AAAA"]


def outcome(error: int) -> str:
    """How what getaddrinfo returned is called; "" of an error that is not about the name (RFC 3493, section 6.1)."""
    return _OUTCOMES[error][0] if error in _OUTCOMES else ""


def responses(name: str, addresses: Iterable[bytes], error: int, family: int) -> list[bytes]:
    """A response for each kind of address that was found; of an error, for each that was asked for.

    Empty for an address literal. `name` is a lookup key, `error` one that has an outcome, `family` what was asked for
    (AF_UNSPEC: 0).
    """
    if not is_node(name):
        return []
    found: dict[str, list[str]] = {}
    for address in addresses:
        text = packed_address_text(address)
        found.setdefault("AAAA" if ":" in text else "A", []).append(text)
    owner, code = dns.name.from_text(name), _OUTCOMES[error][1]
    kinds = _ASKED.get(family, _BOTH) if error else found
    return [_response(owner, kind, found.get(kind, []), code) for kind in kinds]


def _response(owner: dns.name.Name, kind: str, addresses: list[str], code: dns.rcode.Rcode) -> bytes:
    message = dns.message.make_response(dns.message.make_query(owner, kind, id=0), recursion_available=True)
    message.set_rcode(code)
    if addresses:
        message.answer.append(dns.rrset.from_text_list(owner, _TTL, "IN", kind, addresses))
    return message.to_wire(want_shuffle=False)  # the first is the preferred one (RFC 6724)
