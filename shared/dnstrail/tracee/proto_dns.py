"""A DNS message as tracee's ProtoDNS, and its records as ProtoDNSResourceRecord: with all keys, most of them zero."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype

from dnstrail.dns.names import MAX_NAME, MAX_POINTERS, POINTER, POINTER_BYTE, packed_address_text
from dnstrail.dns.whole_message import MAX_RECORDS, MeteredMessage, TextBudget
from dnstrail.errors import BadMessage
from dnstrail.tracee.codes import CLASSES, OPCODES, OPTIONS, RESPONSE_CODES, TYPES, UNKNOWN

Fields = dict[str, Any]
_Reader = Callable[["_Reading", int, int], Fields]  # of the RDATA between two offsets
IN = 1
OPT = 41
_ADDRESS_LENGTHS = {1: 4, 28: 16}  # A and AAAA
_SOA_NUMBERS = ("serial", "refresh", "retry", "expire", "minimum")
_HEADER = struct.Struct("!6H")
_QUESTION = struct.Struct("!2H")  # behind its name
_RECORD = struct.Struct("!HHIH")  # behind its owner, before its RDATA
_SECTIONS = ("answers", "authorities", "additionals")
#: reads of labels and fields of one message for `proto_dns` -> the records before it are printed: `proto_dns_error`
MAX_READS = 20_000  # each takes up to 2 us
_MAX_LABELS = 127  # of one name
_TOO_LONG = 64  # the lowest byte that is no length of a label
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
    reason = _read_sections(_Reading(wire), counts, sections)
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


class _Name(NamedTuple):
    """The name at one offset, as `dnstrail.dns.names.Name`, but with its text as tracee prints it."""

    text: str
    length: int
    end: int
    pointers: int = 0


class _Reading:
    """A message that is read once: each of its names, and at most MAX_READS labels and fields.

    Names without anything unusual are read here, by the rules of dnspython; dnspython reads all others.
    """

    def __init__(self, wire: bytes) -> None:
        self.wire = wire
        self._reads = 0
        self._known: dict[int, _Name] = {}

    def name(self, at: int) -> tuple[str, int]:
        """Return the name at an offset and the offset behind it.

        tracee joins the labels by dots as they are, in their own case and without escapes, and prints the root as "".

        Raises:
            dns.exception.DNSException: The name is not whole.
            BadMessage: The message was read too often.
        """
        found = self._known.get(at) or self._usual(at, MAX_POINTERS)
        if found is not None:
            return found.text, found.end
        with self.metered() as wire:
            name, length = dns.name.from_wire(wire, at)
        return text(b".".join(name.labels[:-1])), at + length

    @contextmanager
    def metered(self) -> Iterator[MeteredMessage]:
        """Let dnspython read the message as often as is left.

        Raises:
            BadMessage: The message was read too often.
        """
        wire = MeteredMessage(self.wire, MAX_READS - self._reads)
        try:
            yield wire
        finally:
            self._reads = MAX_READS - wire.reads_left

    def _usual(self, start: int, pointers: int) -> _Name | None:
        """Return the name at an offset, or None if dnspython has to read it."""
        wire, size, at, labels = self.wire, len(self.wire), start, list[bytes]()
        while at < size and 0 < (length := wire[at]) < _TOO_LONG and len(labels) < _MAX_LABELS:
            labels.append(wire[at + 1 : at + 1 + length])
            at += 1 + length
        self._reads += len(labels) + 1
        if self._reads > MAX_READS:
            raise BadMessage("the message takes too many reads")
        last = wire[at] if at < size else _TOO_LONG
        if last == 0 and at - start < MAX_NAME:
            name = self._known[start] = _Name(text(b".".join(labels)), at + 1 - start, at + 1)
            return name
        if last < POINTER_BYTE or at + 1 >= size or not pointers:
            return None
        target = (last << 8 | wire[at + 1]) - POINTER
        rest = self._known.get(target) or (self._usual(target, pointers - 1) if target < start else None)
        if rest is None or rest.end > start or rest.pointers == MAX_POINTERS or at - start + rest.length > MAX_NAME:
            return None
        whole = text(b".".join(labels))
        if whole and rest.text:
            whole = f"{whole}.{rest.text}"
        name = self._known[start] = _Name(whole or rest.text, at - start + rest.length, at + 2, rest.pointers + 1)
        return name


def _read_sections(reading: _Reading, counts: list[int], sections: dict[str, list[Fields]]) -> str:
    """Fill the sections up to the first damage, and return what it is."""
    at, room, budget, size = _HEADER.size, MAX_RECORDS, TextBudget(), len(reading.wire)
    try:
        for (name, section), count in zip(sections.items(), counts, strict=True):
            for _ in range(min(count, room)):
                shaped, at = _read_question(reading, at) if name == "questions" else _read_record(reading, at, budget)
                section.append(shaped)
            room = max(room - count, 0)
    except (dns.exception.DNSException, struct.error):
        return f"the message is cut short or damaged after byte {at} of {size}"
    except BadMessage:
        return f"the message takes more than {MAX_READS} reads; it is read up to byte {at} of {size}"
    return f"{sum(counts)} records; only the first {MAX_RECORDS} are read" if sum(counts) > MAX_RECORDS else ""


def _read_question(reading: _Reading, at: int) -> tuple[Fields, int]:
    name, at = reading.name(at)
    kind, klass = _QUESTION.unpack_from(reading.wire, at)
    shaped = {"name": name, "type": TYPES.get(kind, UNKNOWN), "class": CLASSES.get(klass, UNKNOWN)}
    if kind not in TYPES:
        shaped["typeCode"] = kind
    return shaped, at + _QUESTION.size


def _read_record(reading: _Reading, at: int, budget: TextBudget) -> tuple[Fields, int]:
    """Return the record at an offset, and the offset behind it.

    Two keys are not tracee's and come last. `rdata` stands for the RDATA of a record that tracee has no field for, or
    whose RDATA is damaged. It is the presentation form (RFC 1035, section 5). It is the generic form (RFC 3597) for a
    type or class that dnspython does not know, and beyond the budget of the message. `typeCode` is the number of a type
    that tracee prints as "Unknown".
    """
    name, at = reading.name(at)
    kind, klass, ttl, length = _RECORD.unpack_from(reading.wire, at)
    at += _RECORD.size
    end = at + length
    if end > len(reading.wire):
        raise struct.error("a record that ends behind the message")
    shaped = {
        "name": name,
        "type": TYPES.get(kind, UNKNOWN),
        "class": CLASSES.get(klass, UNKNOWN),
        "TTL": ttl,
        **_ZERO_FIELDS,
    }
    try:
        shaped |= _read_rdata(reading, at, end, (kind, klass), budget)
    except (dns.exception.DNSException, struct.error, ValueError):
        shaped["rdata"] = _generic(reading.wire[at:end])
    if kind not in TYPES:
        shaped["typeCode"] = kind
    return shaped, end


def _response_code(flags: int, additionals: list[Fields]) -> int:
    """Return the response code with the upper bits that an OPT record adds (RFC 6891, section 6.1.3)."""
    code = flags & 15
    for record in additionals:
        if record["type"] == TYPES[OPT]:
            code |= record["TTL"] >> 20 & 0xF0
    return code


def text(raw: bytes) -> str:
    """Return bytes as text. Like Go's JSON encoder, replace what is not UTF-8 by U+FFFD."""
    return raw.decode("utf-8", "replace")


def _read_rdata(reading: _Reading, at: int, end: int, type_: tuple[int, int], budget: TextBudget) -> Fields:
    """Return the fields that belong to a type and class, or the presentation form where there are none."""
    kind, klass = type_
    wire = reading.wire
    if kind in _ADDRESS_LENGTHS and klass == IN:
        if end - at != _ADDRESS_LENGTHS[kind]:
            raise ValueError("an address of the wrong length")
        return {"IP": packed_address_text(wire[at:end])}
    reader = _READERS.get(kind)
    if reader is not None and (klass == IN or kind not in _IN_ALONE):
        return reader(reading, at, end)
    if kind not in _KNOWN_TYPES or klass not in _KNOWN_CLASSES or not budget.spend(end - at):
        return {"rdata": _generic(wire[at:end])}
    rdclass, rdtype = dns.rdataclass.RdataClass.make(klass), dns.rdatatype.RdataType.make(kind)
    with reading.metered() as metered:
        return {"rdata": dns.rdata.from_wire(rdclass, rdtype, metered, at, end - at).to_text()}


def _one_name(field: str) -> _Reader:
    return lambda reading, at, end: {field: _name(reading, at, end)}


def _name(reading: _Reading, at: int, end: int) -> str:
    """Return the name that ends an RDATA."""
    name, ended = reading.name(at)
    if ended != end:
        raise ValueError("bytes behind a name")
    return name


def _soa(reading: _Reading, at: int, end: int) -> Fields:
    primary, at = reading.name(at)
    mailbox, at = reading.name(at)
    numbers = struct.unpack("!5I", reading.wire[at:end])
    return {"SOA": {"MName": primary, "RName": mailbox, **dict(zip(_SOA_NUMBERS, numbers, strict=True))}}


def _mx(reading: _Reading, at: int, end: int) -> Fields:
    (preference,) = struct.unpack("!H", reading.wire[at : min(at + 2, end)])
    return {"MX": {"preference": preference, "name": _name(reading, at + 2, end)}}


def _srv(reading: _Reading, at: int, end: int) -> Fields:
    priority, weight, port = struct.unpack("!3H", reading.wire[at : min(at + 6, end)])
    return {"SRV": {"priority": priority, "weight": weight, "port": port, "name": _name(reading, at + 6, end)}}


def _uri(reading: _Reading, at: int, end: int) -> Fields:
    priority, weight = struct.unpack("!2H", reading.wire[at : min(at + 4, end)])
    return {"URI": {"priority": priority, "weight": weight, "target": text(reading.wire[at + 4 : end])}}


def _txt(reading: _Reading, at: int, end: int) -> Fields:
    """Return the strings, and in `TXT` the whole RDATA with the length byte of each string, as gopacket keeps it."""
    whole, strings = reading.wire[at:end], []
    while at < end:
        after = at + 1 + reading.wire[at]
        if after > end:
            raise ValueError("a string that is cut short")
        strings.append(text(reading.wire[at + 1 : after]))
        at = after
    return {"TXTs": strings, "TXT": text(whole)}


def _opt(reading: _Reading, at: int, end: int) -> Fields:
    options = []
    while at < end:
        code, length = struct.unpack("!2H", reading.wire[at : min(at + 4, end)])
        at += 4 + length
        if at > end:
            raise ValueError("an option that is cut short")
        options.append({"code": OPTIONS.get(code, UNKNOWN), "data": text(reading.wire[at - length : at])})
    return {"OPT": options}


def _generic(rdata: bytes) -> str:
    """Return the form of an unknown RDATA (RFC 3597, section 5)."""
    return f"\\# {len(rdata)} {rdata.hex()}".rstrip()


_ZERO_FIELDS: Fields = {
    "IP": "",
    "NS": "",
    "CNAME": "",
    "PTR": "",
    "TXTs": [],
    "SOA": {"MName": "", "RName": "", **dict.fromkeys(_SOA_NUMBERS, 0)},
    "SRV": {"priority": 0, "weight": 0, "port": 0, "name": ""},
    "MX": {"preference": 0, "name": ""},
    "OPT": [],
    "URI": {"priority": 0, "weight": 0, "target": ""},
    "TXT": "",
}
_IN_ALONE = frozenset({33})  # SRV; other classes may define the type anew
_KNOWN_TYPES = frozenset(map(int, dns.rdatatype.RdataType))
_KNOWN_CLASSES = frozenset(map(int, dns.rdataclass.RdataClass))
_READERS: dict[int, _Reader] = {
    2: _one_name("NS"),
    5: _one_name("CNAME"),
    6: _soa,
    12: _one_name("PTR"),
    13: _txt,  # gopacket reads HINFO as strings
    15: _mx,
    16: _txt,
    33: _srv,
    OPT: _opt,
    256: _uri,
}
