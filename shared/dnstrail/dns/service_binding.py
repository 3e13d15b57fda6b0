"""SVCB and HTTPS records: the target of a service and its address hints (RFC 9460)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from struct import Struct

import msgspec

from dnstrail.dns.name import Known, read_name
from dnstrail.dns.names import packed_address_text
from dnstrail.errors import BadMessage

MANDATORY, ALPN, NO_DEFAULT_ALPN, PORT, IPV4HINT, ECH, IPV6HINT, OHTTP, DOCPATH = 0, 1, 2, 3, 4, 5, 6, 8, 10
_PRIORITY, _PARAMETER = 2, Struct("!2H")
_HINT_LENGTH = {IPV4HINT: 4, IPV6HINT: 16}


class ServiceBinding(msgspec.Struct, frozen=True):
    """An SVCB or HTTPS record: its target ("." is kept) and, in ServiceMode, its address hints in their order."""

    target: str
    service_mode: bool
    hints: tuple[str, ...] = ()


def read_service_binding(wire: bytes, at: int, end: int, known: Known) -> ServiceBinding:
    """Read an RDATA of SVCB or HTTPS (section 2.2).

    Raises:
        BadMessage: the RDATA is one that dnspython refuses, too, for its framing or a value of a known parameter.
    """
    if at + _PRIORITY >= end:
        raise BadMessage("a service binding that is too short")
    target = read_name(wire, at + _PRIORITY, end, known)
    if target.pointers:
        raise BadMessage("a service binding whose target is compressed")
    alias_mode = wire[at : at + _PRIORITY] == b"\0\0"
    if alias_mode and target.end != end:
        raise BadMessage("a service binding with parameters in AliasMode")
    parameters = _read_parameters(wire, target.end, end)
    if not _agree(parameters):
        raise BadMessage("a service binding that lacks a parameter which another one needs")
    return ServiceBinding(target.text, not alias_mode, tuple(_hints(parameters)))


def _read_parameters(wire: bytes, at: int, end: int) -> dict[int, bytes]:
    """Return the values by their keys; keys must be in strictly increasing order."""
    parameters: dict[int, bytes] = {}
    last = -1
    while at < end:
        start = at + _PARAMETER.size
        if start > end:
            raise BadMessage("a service binding that ends within a parameter")
        key, length = _PARAMETER.unpack_from(wire, at)
        at = start + length
        value = wire[start:at]
        if key <= last or at > end or not (key not in _VALID or _VALID[key](value)):
            raise BadMessage(f"a service binding with a bad parameter {key}")
        parameters[key] = value
        last = key
    return parameters


def _agree(parameters: dict[int, bytes]) -> bool:
    """Return whether every parameter has the others that it needs (sections 8 and 7.1.1)."""
    if NO_DEFAULT_ALPN in parameters and ALPN not in parameters:
        return False
    return all(key in parameters for key in _keys(parameters.get(MANDATORY, b"")))


def _hints(parameters: dict[int, bytes]) -> list[str]:
    return [
        packed_address_text(parameters[key][at : at + length])
        for key, length in _HINT_LENGTH.items()
        for at in range(0, len(parameters.get(key, b"")), length)
    ]


def _keys(value: bytes) -> list[int]:
    return [value[at] << 8 | value[at + 1] for at in range(0, len(value), 2)]


def _is_mandatory(value: bytes) -> bool:
    """Return whether a value is a list of keys in strictly increasing order, without `mandatory` (section 8)."""
    if not value or len(value) % 2:
        return False
    keys = [MANDATORY, *_keys(value)]
    return all(key < following for key, following in pairwise(keys))


def _are_strings(value: bytes) -> bool:
    """Return whether a value is a list of non-empty strings, each behind a byte with its length (section 7.1.1)."""
    at = 0
    while at < len(value) and value[at]:
        at += 1 + value[at]
    return at == len(value)


def _is_ech(value: bytes) -> bool:
    """Return whether a value is a length and as many bytes, at least 4 (RFC 9849, section 4)."""
    return len(value) >= 6 and value[0] << 8 | value[1] == len(value) - 2  # noqa: PLR2004 - 2 + 4


_VALID: dict[int, Callable[[bytes], bool]] = {  # other parameters may have any value
    MANDATORY: _is_mandatory,
    ALPN: lambda value: bool(value) and _are_strings(value),
    NO_DEFAULT_ALPN: lambda value: not value,
    PORT: lambda value: len(value) == 2,  # noqa: PLR2004 - 16 bits
    IPV4HINT: lambda value: bool(value) and len(value) % 4 == 0,
    ECH: _is_ech,
    IPV6HINT: lambda value: bool(value) and len(value) % 16 == 0,
    OHTTP: lambda value: not value,
    DOCPATH: _are_strings,
}
