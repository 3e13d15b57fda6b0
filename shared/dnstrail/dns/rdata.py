"""The targets in the RDATA of the types that make relations (RFC 1035, 2782, 3596, 9460)."""

from __future__ import annotations

from dnstrail.dns.name import Known, read_name
from dnstrail.dns.names import packed_address_text
from dnstrail.dns.service_binding import ServiceBinding, read_service_binding
from dnstrail.errors import BadMessage

A, CNAME, PTR, MX, AAAA, SRV, SVCB, HTTPS = 1, 5, 12, 15, 28, 33, 64, 65
_ADDRESS_LENGTH = {A: 4, AAAA: 16}
_NAME_OFFSET = {CNAME: 0, PTR: 0, MX: 2, SRV: 6}
TYPES = frozenset({*_ADDRESS_LENGTH, *_NAME_OFFSET, SVCB, HTTPS})


def read_rdata(wire: bytes, rdtype: int, at: int, end: int, known: Known) -> str | ServiceBinding:
    """Return the target of a record of one of TYPES: an address, a name, or a service binding.

    Raises:
        BadMessage: the RDATA is one that dnspython refuses, too.
    """
    if rdtype in _NAME_OFFSET:
        at += _NAME_OFFSET[rdtype]
        if at >= end:
            raise BadMessage("an RDATA that is too short")
        name = read_name(wire, at, end, known)
        if name.end != end:
            raise BadMessage("bytes behind the name in an RDATA")
        return name.text
    if rdtype in _ADDRESS_LENGTH:
        if end - at != _ADDRESS_LENGTH[rdtype]:
            raise BadMessage("an address of the wrong length")
        return packed_address_text(wire[at:end])
    return read_service_binding(wire, at, end, known)
