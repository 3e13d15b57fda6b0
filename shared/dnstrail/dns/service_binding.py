"""SVCB and HTTPS records: the target of a service and its address hints (RFC 9460)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from operator import lt
from struct import Struct, unpack
from typing import Final

import msgspec

from dnstrail.dns.names import V4_MAPPED, Known, packed_address_text, read_name, v4_text

MANDATORY: Final = 0
ALPN: Final = 1
NO_DEFAULT_ALPN: Final = 2
PORT: Final = 3
IPV4HINT: Final = 4
ECH: Final = 5
IPV6HINT: Final = 6
OHTTP: Final = 8
DOCPATH: Final = 10
MAX_HINTS: Final = 4096  # different address hints of one record: as many relations of an answer count
_PRIORITY: Final = 2  # bytes
_PARAMETER: Final = 4  # bytes of a key and a length
_parameter: Final = Struct("!2H").unpack_from


class ServiceBinding(msgspec.Struct, frozen=True):
    """An SVCB or HTTPS record: its target ("." is kept) and, in ServiceMode, its address hints in their order.

    Each hint occurs once. `more` is the number of those beyond MAX_HINTS.
    """

    target: str
    service_mode: bool
    hints: tuple[str, ...] = ()
    more: int = 0


def read_service_binding(wire: bytes, at: int, end: int, known: Known) -> ServiceBinding | None:
    """Read an RDATA of SVCB or HTTPS (section 2.2).

    Return None for an RDATA that dnspython refuses, for its framing or for a value of a known parameter.
    """
    target = read_name(wire, at + _PRIORITY, end, known) if at + _PRIORITY < end else None
    if target is None or target.pointers:
        return None  # too short, no name, or a compressed one
    service_mode = wire[at] != 0 or wire[at + 1] != 0
    if target.end == end:
        return ServiceBinding(target.text, service_mode)
    parameters = _read_parameters(wire, target.end, end) if service_mode else None
    if parameters is None or not _agree(parameters):
        return None
    packed = _packed_hints(parameters)
    hints = [v4_text(one) if len(one) == 4 else packed_address_text(one) for one in islice(packed, MAX_HINTS)]
    return ServiceBinding(target.text, service_mode, tuple(hints), len(packed) - len(hints))


def _read_parameters(wire: bytes, at: int, end: int) -> dict[int, bytes] | None:
    """Return the values by their keys, which must be in strictly increasing order; None for a bad value."""
    parameters: dict[int, bytes] = {}
    last = -1
    while at < end:
        start = at + _PARAMETER
        if start > end:
            return None
        key, length = _parameter(wire, at)
        at = start + length
        value = wire[start:at]
        valid = _VALID.get(key)
        if key <= last or at > end or not (valid is None or valid(value)):
            return None
        parameters[key] = value
        last = key
    return parameters


def _agree(parameters: dict[int, bytes]) -> bool:
    """Return whether every parameter has the others that it needs (sections 8 and 7.1.1)."""
    if NO_DEFAULT_ALPN in parameters and ALPN not in parameters:
        return False
    return MANDATORY not in parameters or parameters.keys() >= set(_keys(parameters[MANDATORY]))


def _packed_hints(parameters: dict[int, bytes]) -> dict[bytes, None]:
    """Return the different address hints, packed; an IPv4-mapped one is an IPv4 address."""
    v4, v6 = parameters.get(IPV4HINT, b""), parameters.get(IPV6HINT, b"")
    packed = [v4[at : at + 4] for at in range(0, len(v4), 4)]
    packed += [v6[at : at + 16].removeprefix(V4_MAPPED) for at in range(0, len(v6), 16)]
    return dict.fromkeys(packed)


def _keys(value: bytes) -> tuple[int, ...]:
    return unpack(f"!{len(value) // 2}H", value)


def _is_mandatory(value: bytes) -> bool:
    """Return whether a value is a list of keys in strictly increasing order, without `mandatory` (section 8)."""
    if not value or len(value) % 2:
        return False
    keys = (MANDATORY, *_keys(value))
    return all(map(lt, keys, keys[1:]))


def _are_strings(value: bytes) -> bool:
    """Return whether a value is a list of non-empty strings, each behind a byte with its length (section 7.1.1)."""
    at = 0
    while at < len(value) and value[at]:
        at += 1 + value[at]
    return at == len(value)


def _is_ech(value: bytes) -> bool:
    """Return whether a value is a length and as many bytes, at least 4 (RFC 9849, section 4)."""
    return len(value) >= 6 and value[0] << 8 | value[1] == len(value) - 2


_VALID: Final[dict[int, Callable[[bytes], bool]]] = {  # other parameters may have any value
    MANDATORY: _is_mandatory,
    ALPN: lambda value: bool(value) and _are_strings(value),
    NO_DEFAULT_ALPN: lambda value: not value,
    PORT: lambda value: len(value) == 2,
    IPV4HINT: lambda value: bool(value) and len(value) % 4 == 0,
    ECH: _is_ech,
    IPV6HINT: lambda value: bool(value) and len(value) % 16 == 0,
    OHTTP: lambda value: not value,
    DOCPATH: _are_strings,
}
