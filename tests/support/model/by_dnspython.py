"""dnspython's view of a message in the terms of our decoder, and the differences between both."""

from __future__ import annotations

import struct

import dns.exception
import dns.message
import dns.name
import dns.opcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import msgspec
from dns.rdtypes.svcbbase import ParamKey

from dnstrail.dns import Message, ResourceRecord, ServiceBinding, decode
from dnstrail.dns.names import address_text
from dnstrail.dns.service_binding import MAX_HINTS
from dnstrail.errors import BadMessage

READ = {"A", "AAAA", "CNAME", "PTR", "MX", "SRV", "SVCB", "HTTPS"}


def text_of(name: dns.name.Name) -> str:
    """Return a name in the form of the image."""
    return name.canonicalize().to_text(omit_final_dot=True)


def target_of(rdata: dns.rdata.Rdata) -> str | ServiceBinding:
    """Return the target of a record of one of READ."""
    if hasattr(rdata, "address"):
        return address_text(rdata.address)
    if not hasattr(rdata, "params"):
        return text_of(rdata.exchange if hasattr(rdata, "exchange") else rdata.target)
    params = [rdata.params.get(key) for key in (ParamKey.IPV4HINT, ParamKey.IPV6HINT)]
    texts = [address_text(address) for param in params if param and rdata.priority for address in param.addresses]
    hints = tuple(dict.fromkeys(texts))
    first = hints[:MAX_HINTS]
    return ServiceBinding(text_of(rdata.target), rdata.priority != 0, first, len(hints) - len(first))


def read_all(wire: bytes) -> dns.message.Message:
    """Read a message as far as possible."""
    return dns.message.from_wire(wire, one_rr_per_rrset=True, continue_on_error=True)


def records_of(message: dns.message.Message) -> list[ResourceRecord]:
    """Return the answers that can make relations."""
    return [
        ResourceRecord(text_of(rrset.name), int(rrset.rdtype), rrset.ttl, target_of(rrset[0]))
        for rrset in message.answer
        if dns.rdatatype.to_text(rrset.rdtype) in READ and rrset.rdclass == dns.rdataclass.IN
    ]


def decoded(wire: bytes) -> Message | None:
    """Return our decoder's message; None if it refuses the bytes."""
    try:
        return decode(wire)
    except BadMessage:
        return None


def disagreement(wire: bytes) -> str:
    """Return the difference between our decoder and dnspython on a message, whole or damaged; "" if they agree.

    Some behaviour is dnspython's alone and is ignored: its error classes, its TTL 0 for TTLs from 2^31 on, updates, and
    an OPT or TSIG record among the answers, which ends the message.
    """
    ours = decoded(wire)
    try:
        theirs = read_all(wire)
    except dns.exception.DNSException:
        return "" if ours is None else "only dnspython refuses it"
    questions, answers = struct.unpack_from("!HH", wire, 4)
    if not theirs.flags & dns.flags.QR or questions != 1:
        return _differ(ours, Message(wire, theirs.id, int(theirs.flags), answers))
    if theirs.opcode() == dns.opcode.UPDATE:
        return ""
    if not theirs.question:
        return "" if ours is None else "only dnspython refuses its question"
    return _differ(ours, _expected(wire, theirs, ours))


def _expected(wire: bytes, theirs: dns.message.Message, ours: Message | None) -> Message:
    asked, records = theirs.question[0], records_of(theirs)
    if ours and _ended_by_meta_record(theirs):
        records += ours.answers[len(records) :]
    return Message(
        *(wire, theirs.id, int(theirs.flags), *struct.unpack_from("!H", wire, 6)),
        *(text_of(asked.name), int(asked.rdtype), int(asked.rdclass), records),
        skipped=ours.skipped if ours and theirs.errors else 0,
        damaged=bool(ours and ours.damaged and theirs.errors),
    )


def _ended_by_meta_record(theirs: dns.message.Message) -> bool:
    return any(isinstance(error.exception, dns.message.BadEDNS | dns.message.BadTSIG) for error in theirs.errors)


def _differ(ours: Message | None, expected: Message) -> str:
    if ours is None:
        return "only our decoder refuses it"
    for field in Message.__struct_fields__:
        mine, other = getattr(ours, field), getattr(expected, field)
        if field == "answers":
            mine, other = _with_ttls_of_dnspython(mine), _with_ttls_of_dnspython(other)
        if mine != other:
            return f"{field}: ours {mine!r}, dnspython's {other!r}"
    return ""


def _with_ttls_of_dnspython(records: list[ResourceRecord]) -> list[ResourceRecord]:
    return [record if record.ttl < 1 << 31 else msgspec.structs.replace(record, ttl=0) for record in records]
