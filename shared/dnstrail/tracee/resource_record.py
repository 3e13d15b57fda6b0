"""One resource record as tracee's ProtoDNSResourceRecord: all of its keys, with zero values except for its own type."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype

from dnstrail.dns.names import packed_address_text
from dnstrail.dns.whole_message import TextBudget
from dnstrail.tracee.codes import CLASSES, OPTIONS, TYPES, UNKNOWN

Fields = dict[str, Any]
_Reader = Callable[[bytes, int, int], Fields]  # of the RDATA between two offsets
IN = 1
OPT = 41
_ADDRESS_LENGTHS = {1: 4, 28: 16}  # A and AAAA
_SOA_NUMBERS = ("serial", "refresh", "retry", "expire", "minimum")


def read_name(wire: bytes, at: int) -> tuple[str, int]:
    """Return the name at an offset and the offset behind it.

    tracee joins the labels by dots as they are, in their own case and without escapes, and prints the root as "".

    Raises:
        dns.exception.DNSException: The name is not whole.
    """
    name, length = dns.name.from_wire(wire, at)
    return text(b".".join(name.labels[:-1])), at + length


def resource_record(wire: bytes, at: int, end: int, fixed: tuple[str, int, int, int], budget: TextBudget) -> Fields:
    """Return the record whose RDATA lies between two offsets; `fixed` is its name, type, class and TTL.

    Two keys are not tracee's and come last. `rdata` stands for the RDATA of a record that tracee has no field for, or
    whose RDATA is damaged. It is the presentation form (RFC 1035, section 5). It is the generic form (RFC 3597) for a
    type or class that dnspython does not know, and beyond the budget of the message. `typeCode` is the number of a type
    that tracee prints as "Unknown".
    """
    name, kind, klass, ttl = fixed
    shaped = {"name": name, **type_and_class(kind, klass), "TTL": ttl, **_zero_fields()}
    code = shaped.pop("typeCode", None)
    try:
        shaped |= _read_rdata(wire, at, end, (kind, klass), budget)
    except (dns.exception.DNSException, struct.error, ValueError):
        shaped["rdata"] = _generic(wire[at:end])
    return shaped if code is None else {**shaped, "typeCode": code}


def type_and_class(kind: int, klass: int) -> Fields:
    """Return a type and a class as tracee's strings, and the number of a type that tracee has no string for."""
    shaped: Fields = {"type": TYPES.get(kind, UNKNOWN), "class": CLASSES.get(klass, UNKNOWN)}
    return shaped if kind in TYPES else {**shaped, "typeCode": kind}


def text(raw: bytes) -> str:
    """Return bytes as text. Like Go's JSON encoder, replace what is not UTF-8 by U+FFFD."""
    return raw.decode("utf-8", "replace")


def _zero_fields() -> Fields:
    return {
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


def _read_rdata(wire: bytes, at: int, end: int, type_: tuple[int, int], budget: TextBudget) -> Fields:
    """Return the fields that belong to a type and class, or the presentation form where there are none."""
    kind, klass = type_
    if kind in _ADDRESS_LENGTHS and klass == IN:
        if end - at != _ADDRESS_LENGTHS[kind]:
            raise ValueError("an address of the wrong length")
        return {"IP": packed_address_text(wire[at:end])}
    reader = _READERS.get(kind)
    if reader is not None and (klass == IN or kind not in _IN_ALONE):
        return reader(wire, at, end)
    if kind not in _KNOWN_TYPES or klass not in _KNOWN_CLASSES or not budget.take(end - at):
        return {"rdata": _generic(wire[at:end])}
    rdclass, rdtype = dns.rdataclass.RdataClass.make(klass), dns.rdatatype.RdataType.make(kind)
    return {"rdata": dns.rdata.from_wire(rdclass, rdtype, wire, at, end - at).to_text()}


def _one_name(field: str) -> _Reader:
    return lambda wire, at, end: {field: _name(wire, at, end)}


def _name(wire: bytes, at: int, end: int) -> str:
    """Return the name that ends an RDATA."""
    name, ended = read_name(wire, at)
    if ended != end:
        raise ValueError("bytes behind a name")
    return name


def _soa(wire: bytes, at: int, end: int) -> Fields:
    primary, at = read_name(wire, at)
    mailbox, at = read_name(wire, at)
    numbers = struct.unpack("!5I", wire[at:end])
    return {"SOA": {"MName": primary, "RName": mailbox, **dict(zip(_SOA_NUMBERS, numbers, strict=True))}}


def _mx(wire: bytes, at: int, end: int) -> Fields:
    (preference,) = struct.unpack("!H", wire[at : min(at + 2, end)])
    return {"MX": {"preference": preference, "name": _name(wire, at + 2, end)}}


def _srv(wire: bytes, at: int, end: int) -> Fields:
    priority, weight, port = struct.unpack("!3H", wire[at : min(at + 6, end)])
    return {"SRV": {"priority": priority, "weight": weight, "port": port, "name": _name(wire, at + 6, end)}}


def _uri(wire: bytes, at: int, end: int) -> Fields:
    priority, weight = struct.unpack("!2H", wire[at : min(at + 4, end)])
    return {"URI": {"priority": priority, "weight": weight, "target": text(wire[at + 4 : end])}}


def _txt(wire: bytes, at: int, end: int) -> Fields:
    """Return the strings, and in `TXT` the whole RDATA with the length byte of each string, as gopacket keeps it."""
    whole, strings = wire[at:end], []
    while at < end:
        after = at + 1 + wire[at]
        if after > end:
            raise ValueError("a string that is cut short")
        strings.append(text(wire[at + 1 : after]))
        at = after
    return {"TXTs": strings, "TXT": text(whole)}


def _opt(wire: bytes, at: int, end: int) -> Fields:
    options = []
    while at < end:
        code, length = struct.unpack("!2H", wire[at : min(at + 4, end)])
        at += 4 + length
        if at > end:
            raise ValueError("an option that is cut short")
        options.append({"code": OPTIONS.get(code, UNKNOWN), "data": text(wire[at - length : at])})
    return {"OPT": options}


def _generic(rdata: bytes) -> str:
    """Return the form of an unknown RDATA (RFC 3597, section 5)."""
    return f"\\# {len(rdata)} {rdata.hex()}".rstrip()


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
