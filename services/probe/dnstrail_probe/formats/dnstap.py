"""dnstap: from one protobuf message of a resolver to the DNS message in it (dnstap.proto of dnstap/dnstap.pb)."""

from __future__ import annotations

from typing import Any

from dnstrail.captured import Captured, Flow
from dnstrail_probe.source import LAST_TIME

_VARINT, _BYTES = 0, 2
_FIXED = {1: 8, 5: 4}  # wire type -> bytes (protobuf.dev/programming-guides/encoding)
_VARINT_BITS = 64

# Fields of Dnstap, then of its Message.
_IDENTITY, _MESSAGE, _KIND = 1, 14, 15
_TYPE, _PROTOCOL, _QUERY_ADDRESS, _RESPONSE_ADDRESS, _QUERY_PORT, _RESPONSE_PORT = 1, 3, 4, 5, 6, 7
_QUERY_TIME, _QUERY, _RESPONSE_TIME, _RESPONSE = 8, 10, 12, 14  # the nanoseconds lie one field behind a time

_KIND_MESSAGE = 1
_ENDS = ("AUTH", "RESOLVER", "CLIENT", "FORWARDER", "STUB", "TOOL")  # UPDATE changes zones, and answers nothing
_TYPES = {
    2 * place + offset: f"{end}_{what}"
    for place, end in enumerate(_ENDS)
    for offset, what in ((1, "QUERY"), (2, "RESPONSE"))
}
# Protocol of the socket -> what carries it, and its own name where that says more.
_TRANSPORTS = {
    1: ("udp", ""),
    2: ("tcp", ""),
    3: ("tcp", "dot"),
    4: ("tcp", "doh"),
    5: ("udp", "dnscrypt"),
    6: ("tcp", "dnscrypt"),
    7: ("udp", "doq"),
}
_ADDRESSES = (0, 4, 16)  # bytes; none, IPv4, IPv6
_LAST_PORT = 65535
_LARGEST_MESSAGE = 65535
_LONGEST_IDENTITY = 255
_SECOND = 10**9

_Fields = tuple[dict[int, int], dict[int, bytes]]  # numbers and bytes, by field


class _PassedOver(Exception):
    """Why a frame gives no message, in snake_case."""


def read_dnstap(frame: bytes, arrival: int) -> Captured | str:
    """The DNS message in a frame, or the reason, in snake_case, why there is none.

    Its time is the resolver's own: of the response, else of the query; `arrival` (ns) where it tells none. An
    address that is not told, while the other end's is, is the unspecified one.
    """
    try:
        return _captured(frame, arrival)
    except _PassedOver as reason:
        return str(reason)
    except (LookupError, ValueError):
        return "dnstap_bad_message"


def _captured(frame: bytes, arrival: int) -> Captured:
    kinds, texts = _fields(frame)
    if kinds.get(_KIND) != _KIND_MESSAGE:
        raise _PassedOver("dnstap_other_type")
    numbers, inner = _fields(texts[_MESSAGE])
    name = _TYPES.get(numbers.get(_TYPE, 0))
    if name is None:
        raise _PassedOver("dnstap_other_type")
    response = name.endswith("_RESPONSE")
    payload = inner.get(_RESPONSE if response else _QUERY, b"")
    if not payload:
        raise _PassedOver("empty_payload")
    if len(payload) > _LARGEST_MESSAGE:
        raise ValueError("more than a DNS message can have")
    transport, inside = _TRANSPORTS.get(numbers.get(_PROTOCOL, 0), _TRANSPORTS[1])
    args: dict[str, Any] = {"dnstap": name}
    if inside:
        args["transport"] = inside
    if identity := texts.get(_IDENTITY):
        args["identity"] = identity[:_LONGEST_IDENTITY].decode(errors="backslashreplace")
    flow = _flow(numbers, inner, transport, response=response)
    return Captured(_stamp(numbers, arrival, response=response), payload, flow, None, args)


def _stamp(numbers: dict[int, int], arrival: int, *, response: bool) -> int:
    for field in (_RESPONSE_TIME, _QUERY_TIME) if response else (_QUERY_TIME,):
        if field in numbers:
            seconds, nanoseconds = numbers[field], numbers.get(field + 1, 0)
            stamp = seconds * _SECOND + nanoseconds
            if nanoseconds >= _SECOND or stamp > LAST_TIME:
                raise _PassedOver("bad_timestamp")
            return stamp
    return arrival


def _flow(numbers: dict[int, int], texts: dict[int, bytes], transport: str, *, response: bool) -> Flow | None:
    """Between whom it went: a query from the initiator to the responder, a response back."""
    ends = [
        (texts.get(address, b""), numbers.get(port, 0))
        for address, port in ((_QUERY_ADDRESS, _QUERY_PORT), (_RESPONSE_ADDRESS, _RESPONSE_PORT))
    ]
    if any(len(address) not in _ADDRESSES or port > _LAST_PORT for address, port in ends):
        raise ValueError("an address or a port that there is not")
    known = max(len(address) for address, _ in ends)
    if not known:
        return None
    (source, source_port), (target, target_port) = reversed(ends) if response else ends
    return Flow(source or bytes(known), source_port, target or bytes(known), target_port, transport)


def _fields(data: bytes) -> _Fields:
    """The fields of a protobuf message; of one that comes twice the last. ValueError, LookupError: it is none."""
    numbers: dict[int, int] = {}
    texts: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        field, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            numbers[field], at = _varint(data, at)
        elif kind == _BYTES:
            length, at = _varint(data, at)
            texts[field] = data[at : at + length]
            at += length
        elif kind in _FIXED:
            numbers[field] = int.from_bytes(data[at : at + _FIXED[kind]], "little")
            at += _FIXED[kind]
        else:
            raise ValueError("a group, or nothing")
    if at > len(data):
        raise ValueError("cut within a field")
    return numbers, texts


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = data[at]
    if value < 0x80:  # noqa: PLR2004 - seven bits a byte; the eighth says that more follow
        return value, at + 1
    value &= 0x7F
    for shift in range(7, _VARINT_BITS, 7):
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004
            return value, at + 1
    raise ValueError("a number of more than 64 bits")
