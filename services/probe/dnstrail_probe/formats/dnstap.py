"""Decodes dnstap: one protobuf message of a resolver to the DNS message in it (dnstap.proto of dnstap/dnstap.pb).

Tests compare it with the protobuf library.
"""

from __future__ import annotations

from typing import Any

from dnstrail.captured import Captured, Flow
from dnstrail_probe.formats.protobuf import read_fields

# Fields of Dnstap, then of its Message.
_IDENTITY, _MESSAGE, _KIND = 1, 14, 15
_TYPE, _PROTOCOL, _QUERY_ADDRESS, _RESPONSE_ADDRESS, _QUERY_PORT, _RESPONSE_PORT = 1, 3, 4, 5, 6, 7
_QUERY_TIME, _QUERY, _RESPONSE_TIME, _RESPONSE = 8, 10, 12, 14  # the field after a time holds its nanoseconds

_KIND_MESSAGE = 1
_ENDS = ("AUTH", "RESOLVER", "CLIENT", "FORWARDER", "STUB", "TOOL")  # UPDATE is left out: it changes zones
_TYPES = {
    2 * place + offset: f"{end}_{what}"
    for place, end in enumerate(_ENDS)
    for offset, what in ((1, "QUERY"), (2, "RESPONSE"))
}
# Socket protocol of dnstap -> transport, and the name of the encryption.
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
#: fields of a dnstap frame, and of the message in it -> the frame is skipped: `dnstap_bad_message`
MOST_FIELDS = 128  # those that dnstap knows are 15
_SECOND = 10**9
_LARGEST_TIME = (1 << 63) - 1  # ns since the epoch, as a signed 64-bit integer holds it: the year 2262


class _Skipped(Exception):
    """A frame without a usable message; the text is the reason, in snake_case."""


def read_dnstap(frame: bytes, arrival: int) -> Captured | str:
    """Return the DNS message in a frame, or the reason, in snake_case, why it is skipped.

    Its time is the resolver's own: that of the response, else of the query, else `arrival` (ns). If a frame states the
    address of one end only, the other end has the unspecified address.
    """
    try:
        return _captured(frame, arrival)
    except _Skipped as reason:
        return str(reason)
    except (LookupError, ValueError):
        return "dnstap_bad_message"


def _captured(frame: bytes, arrival: int) -> Captured:
    """Return the message; raise _Skipped, LookupError or ValueError if there is none."""
    kinds, texts = read_fields(frame, MOST_FIELDS)
    if kinds.get(_KIND) != _KIND_MESSAGE:
        raise _Skipped("dnstap_other_type")
    numbers, inner = read_fields(texts[_MESSAGE], MOST_FIELDS)
    name = _TYPES.get(numbers.get(_TYPE, 0))
    if name is None:
        raise _Skipped("dnstap_other_type")
    response = name.endswith("_RESPONSE")
    payload = inner.get(_RESPONSE if response else _QUERY, b"")
    if not payload:
        raise _Skipped("empty_payload")
    if len(payload) > _LARGEST_MESSAGE:
        raise ValueError("larger than any DNS message")
    transport, inside = _TRANSPORTS.get(numbers.get(_PROTOCOL, 0), _TRANSPORTS[1])
    args: dict[str, Any] = {"dnstap": name}
    if inside:
        args["transport"] = inside
    if identity := texts.get(_IDENTITY):
        args["identity"] = identity[:_LONGEST_IDENTITY].decode(errors="backslashreplace")
    flow = _flow(numbers, inner, transport, response=response)
    timestamp = _timestamp(numbers, arrival, response=response)
    return Captured(timestamp=timestamp, payload=payload, flow=flow, args=args)


def _timestamp(numbers: dict[int, int], arrival: int, *, response: bool) -> int:
    """Return the time of a message in ns."""
    for field in (_RESPONSE_TIME, _QUERY_TIME) if response else (_QUERY_TIME,):
        if field in numbers:
            seconds, nanoseconds = numbers[field], numbers.get(field + 1, 0)
            timestamp = seconds * _SECOND + nanoseconds
            if nanoseconds >= _SECOND or timestamp > _LARGEST_TIME:
                raise _Skipped("bad_timestamp")
            return timestamp
    return arrival


def _flow(numbers: dict[int, int], texts: dict[int, bytes], transport: str, *, response: bool) -> Flow | None:
    """Return the ends of a message: a query goes from the initiator to the responder, a response goes back."""
    ends = [
        (texts.get(address, b""), numbers.get(port, 0))
        for address, port in ((_QUERY_ADDRESS, _QUERY_PORT), (_RESPONSE_ADDRESS, _RESPONSE_PORT))
    ]
    if any(len(address) not in _ADDRESSES or port > _LAST_PORT for address, port in ends):
        raise ValueError("an impossible address or port")
    known = max(len(address) for address, _ in ends)
    if not known:
        return None
    (source, source_port), (destination, destination_port) = reversed(ends) if response else ends
    return Flow(
        source=source or bytes(known),
        source_port=source_port,
        destination=destination or bytes(known),
        destination_port=destination_port,
        transport=transport,
    )
