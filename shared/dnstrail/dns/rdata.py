"""The types of resource records that make relations, and the targets in their RDATA (RFC 1035, 2782, 3596, 9460)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from dnstrail.dns.names import Known, packed_address_text, read_name
from dnstrail.dns.service_binding import ServiceBinding, read_service_binding


class Kind(IntEnum):
    """The kinds of relation: the types of the resource records that state them."""

    A = 1
    CNAME = 5
    PTR = 12
    MX = 15
    AAAA = 28
    SRV = 33
    SVCB = 64
    HTTPS = 65


# The same as plain integers.
A: Final = 1
CNAME: Final = 5
PTR: Final = 12
MX: Final = 15
AAAA: Final = 28
SRV: Final = 33
SVCB: Final = 64
HTTPS: Final = 65
ADDRESSES: Final = frozenset({A, AAAA})
BINDINGS: Final = frozenset({SVCB, HTTPS})
FAR: Final = frozenset({MX, SRV})  # lead to the addresses of other services, not of the name itself
_ADDRESS_LENGTH: Final = {A: 4, AAAA: 16}
_NAME_OFFSET: Final = {CNAME: 0, PTR: 0, MX: 2, SRV: 6}
TYPES: Final = frozenset({*_ADDRESS_LENGTH, *_NAME_OFFSET, SVCB, HTTPS})


def read_rdata(wire: bytes, rdtype: int, at: int, end: int, known: Known) -> str | ServiceBinding | None:
    """Return the target of a record of one of TYPES: an address, a name, or a service binding.

    Return None for an RDATA that dnspython refuses.
    """
    if rdtype in _NAME_OFFSET:
        at += _NAME_OFFSET[rdtype]
        name = read_name(wire, at, end, known) if at < end else None
        return name.text if name is not None and name.end == end else None
    if rdtype in _ADDRESS_LENGTH:
        return packed_address_text(wire[at:end]) if end - at == _ADDRESS_LENGTH[rdtype] else None
    return read_service_binding(wire, at, end, known)
