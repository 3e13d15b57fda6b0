"""A DNS message as tracee's ProtoDNS."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

import dns.exception

from dnstrail.dns.whole_message import MAX_RECORDS, MeteredMessage, TextBudget
from dnstrail.errors import BadMessage
from dnstrail.tracee.codes import OPCODES, RESPONSE_CODES, TYPES, UNKNOWN
from dnstrail.tracee.resource_record import OPT, Fields, read_name, resource_record, type_and_class

_HEADER = struct.Struct("!6H")
_QUESTION = struct.Struct("!2H")  # behind its name
_RECORD = struct.Struct("!HHIH")  # behind its owner, before its RDATA
_SECTIONS = ("answers", "authorities", "additionals")
#: reads of labels and fields of one message for `proto_dns` -> the records before it are printed: `proto_dns_error`
MAX_READS = 20_000  # each takes up to 2 us
_COUNTS = ("QDCount", "ANCount", "NSCount", "ARCount")


def proto_dns(wire: bytes) -> tuple[dict[str, Any] | None, str]:
    """Return a message in tracee's form, and the reason why it is not complete ("" if it is).

    tracee reports no event for a message that is damaged anywhere. Here the whole records before the damage are
    reported: at most MAX_RECORDS, and those that MAX_READS reads of the message reach. The four counts are those of the
    header in any case. None stands for bytes that are too few for a header.
    """
    if len(wire) < _HEADER.size:
        return None, f"{len(wire)} bytes are too few for a DNS header, which has {_HEADER.size}"
    number, flags, *counts = _HEADER.unpack_from(wire)
    sections: dict[str, list[Fields]] = {"questions": [], **{name: [] for name in _SECTIONS}}
    reason = _read_sections(MeteredMessage(wire, MAX_READS), counts, sections)
    shaped = {
        "ID": number,
        "QR": flags >> 15,
        "opCode": OPCODES.get(flags >> 11 & 15, UNKNOWN.lower()),
        "AA": flags >> 10 & 1,
        "TC": flags >> 9 & 1,
        "RD": flags >> 8 & 1,
        "RA": flags >> 7 & 1,
        "Z": flags >> 4 & 7,
        "responseCode": RESPONSE_CODES.get(_response_code(flags, sections["additionals"]), UNKNOWN.lower()),
        **dict(zip(_COUNTS, counts, strict=True)),
        **sections,
    }
    return shaped, reason


@lru_cache(maxsize=1)  # of the last one: findings on one event, and the event that it leads to, show the same message
def shown_message(wire: bytes) -> tuple[dict[str, Any] | None, str]:
    """Return what `proto_dns` returns; nobody may change it."""
    return proto_dns(wire)


def _read_sections(wire: MeteredMessage, counts: list[int], sections: dict[str, list[Fields]]) -> str:
    """Fill the sections up to the first damage, and return what it is."""
    at, room, budget = _HEADER.size, MAX_RECORDS, TextBudget()
    try:
        for (name, section), count in zip(sections.items(), counts, strict=True):
            for _ in range(min(count, room)):
                shaped, at = _read_question(wire, at) if name == "questions" else _read_record(wire, at, budget)
                section.append(shaped)
            room = max(room - count, 0)
    except (dns.exception.DNSException, struct.error):
        return f"the message is cut short or damaged after byte {at} of {len(wire)}"
    except BadMessage:
        return f"the message takes more than {MAX_READS} reads; it is read up to byte {at} of {len(wire)}"
    return f"{sum(counts)} records; only the first {MAX_RECORDS} are read" if sum(counts) > MAX_RECORDS else ""


def _read_question(wire: MeteredMessage, at: int) -> tuple[Fields, int]:
    name, at = read_name(wire, at)
    return {"name": name, **type_and_class(*_QUESTION.unpack_from(wire, at))}, at + _QUESTION.size


def _read_record(wire: MeteredMessage, at: int, budget: TextBudget) -> tuple[Fields, int]:
    name, at = read_name(wire, at)
    kind, klass, ttl, length = _RECORD.unpack_from(wire, at)
    at += _RECORD.size
    end = at + length
    if end > len(wire):
        raise struct.error("a record that ends behind the message")
    return resource_record(wire, at, end, (name, kind, klass, ttl), budget), end


def _response_code(flags: int, additionals: list[Fields]) -> int:
    """Return the response code with the upper bits that an OPT record adds (RFC 6891, section 6.1.3)."""
    code = flags & 15
    for record in additionals:
        if record["type"] == TYPES[OPT]:
            code |= record["TTL"] >> 20 & 0xF0
    return code
