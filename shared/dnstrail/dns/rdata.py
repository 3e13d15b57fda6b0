"""The targets in the RDATA of the types that make relations (RFC 1035, 2782, 3596, 9460)."""

from __future__ import annotations

from typing import Final

from dnstrail.dns.name import Known, read_name
from dnstrail.dns.names import packed_address_text
from dnstrail.dns.service_binding import ServiceBinding, read_service_binding

A: Final = 1
CNAME: Final = 5
PTR: Final = 12
MX: Final = 15
AAAA: Final = 28
SRV: Final = 33
SVCB: Final = 64
HTTPS: Final = 65
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
