"""The RDATA that makes relations, read to the target that it names (RFC 1035, 2782, 3596, 9460)."""

from __future__ import annotations

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import msgspec
from dns.rdtypes.svcbbase import IPv4HintParam, IPv6HintParam, ParamKey, SVCBBase

from dnstrail.errors import BadMessage
from dnstrail.names import ROOT, label_text, packed_address_text
from dnstrail.wire.name import Known, read_name

A, CNAME, PTR, MX, AAAA, SRV, SVCB, HTTPS = 1, 5, 12, 15, 28, 33, 64, 65
_ADDRESS_LENGTH = {A: 4, AAAA: 16}
_NAME_OFFSET = {CNAME: 0, PTR: 0, MX: 2, SRV: 6}
TYPES = frozenset({*_ADDRESS_LENGTH, *_NAME_OFFSET, SVCB, HTTPS})


class ServiceBinding(msgspec.Struct, frozen=True):
    """An SVCB or HTTPS record: its target ("." as it stands) and, in ServiceMode, its address hints in order."""

    target: str
    service_mode: bool
    hints: tuple[str, ...] = ()


def read_rdata(wire: bytes, rdtype: int, at: int, end: int, known: Known) -> str | ServiceBinding:
    """The target of one record of one of TYPES: an address, a name, or a service binding.

    Raises:
        BadMessage: an RDATA that dnspython would refuse, too.
    """
    if rdtype in _ADDRESS_LENGTH:
        if end - at != _ADDRESS_LENGTH[rdtype]:
            raise BadMessage("an address of the wrong length")
        return packed_address_text(wire[at:end])
    if rdtype in _NAME_OFFSET:
        name, after = read_name(wire, at + _NAME_OFFSET[rdtype], end, known)
        if after != end:
            raise BadMessage("bytes behind the name in an RDATA")
        return name
    return _read_service_binding(wire, rdtype, at, end)


def _read_service_binding(wire: bytes, rdtype: int, at: int, end: int) -> ServiceBinding:
    """SVCB is rare and its parameters are many: dnspython reads it."""
    try:
        rdata = dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.RdataType.make(rdtype), wire, at, end - at)
    except (dns.exception.DNSException, ValueError) as error:
        raise BadMessage(f"a bad service binding: {error}") from error
    assert isinstance(rdata, SVCBBase)  # noqa: S101 - tells mypy what dnspython's registry holds
    target = ".".join(map(label_text, rdata.target.labels[:-1])) or ROOT
    if rdata.priority == 0:
        return ServiceBinding(target, service_mode=False)
    return ServiceBinding(target, service_mode=True, hints=tuple(_hints(rdata)))


def _hints(rdata: SVCBBase) -> list[str]:
    hints: list[str] = []
    for key, kind in ((ParamKey.IPV4HINT, IPv4HintParam), (ParamKey.IPV6HINT, IPv6HintParam)):
        param = rdata.params.get(key)
        if isinstance(param, kind):
            hints += map(_hint_text, param.addresses)
    return hints


def _hint_text(address: str) -> str:
    return packed_address_text(dns.inet.inet_pton(dns.inet.af_for_address(address), address))
