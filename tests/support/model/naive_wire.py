"""Names, addresses and raw messages, read by dnspython alone."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.wire
import idna
from dns.name import Name

RESPONSE = 1 << 4  # QR set and opcode QUERY, in the upper five bits of the flags
AA, RA = 0x0400, 0x0080
TTL_CAP = 7 * 24 * 3600
TTL_SIGN_BIT = 2**31
KINDS = ("A", "AAAA", "CNAME", "MX", "SRV", "SVCB", "HTTPS", "PTR")
REVERSE_SUFFIXES = ((b"in-addr", b"arpa"), (b"ip6", b"arpa"))


class Record(NamedTuple):
    """One well-formed record of the answer section, of class IN. `rdata` is None if its type makes no relations."""

    owner: Name
    kind: str
    ttl: int
    rdata: Any


class Heading(NamedTuple):
    """Header and question of a message; `end` is the place behind the question."""

    id: int
    flags: int
    question: tuple[Name, int, int]  # name, type, class; dnspython compares names without case
    answers: int
    end: int

    @property
    def name(self) -> Name:
        """Return the name in the question."""
        return self.question[0]

    @property
    def is_query(self) -> bool:
        """Return whether this is a query of class IN."""
        return self.flags >> 11 == 0 and self.question[2] == dns.rdataclass.IN

    @property
    def is_response(self) -> bool:
        """Return whether this is the response to a query of class IN."""
        return self.flags >> 11 == RESPONSE and self.question[2] == dns.rdataclass.IN

    @property
    def counts(self) -> bool:
        """Return whether the answers of this message can relate anything."""
        return self.is_response and self.answers > 0

    @property
    def of_an_owner(self) -> bool:
        """Return whether an authority answered that resolves nothing for others (AA set, RA clear)."""
        return self.flags & (AA | RA) == AA


@lru_cache(maxsize=4096)
def name_text(name: Name) -> str:
    """Return the text of a name: labels lower-cased and escaped, no trailing dot, the root as "."."""
    return name.canonicalize().to_text(omit_final_dot=True)


@lru_cache(maxsize=4096)
def address_text(text: str) -> str | None:
    """Return the canonical form of an address literal (perhaps with brackets or a zone), else None."""
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def is_reverse(name: Name) -> bool:
    """Return whether a name is in-addr.arpa or ip6.arpa, or lies below them."""
    return name.canonicalize().labels[:-1][-2:] in REVERSE_SUFFIXES


def reverse_address(name: Name) -> str | None:
    """Return the address that a reverse name encodes, None without any."""
    if not is_reverse(name):
        return None
    *labels, zone, _arpa = [label.decode("latin-1") for label in name.canonicalize().labels[:-1]]
    labels.reverse()
    if zone == "in-addr":
        octets = [str(number) for number in range(256)]
        return ".".join(labels) if len(labels) == 4 and set(labels) <= set(octets) else None
    if len(labels) != 32 or not set(labels) <= set("0123456789abcdef"):
        return None
    digits = "".join(labels)
    return address_text(":".join(digits[i : i + 4] for i in range(0, 32, 4)))


def relatable(name: Name) -> bool:
    """Return whether a name may be owner or target of a relation."""
    return name != dns.name.root and address_text(name_text(name)) is None and not is_reverse(name)


def key_text(key: str) -> str | None:
    """Return a lookup key in the form of the image, None if it is no name, or a reverse name without address."""
    text = key.strip()
    address = address_text(text) or address_text(text.removesuffix("."))
    if address is not None:
        return address
    try:
        if not text.isascii():
            try:
                return key_text(idna.encode(text, uts46=True).decode("ascii"))
            except UnicodeError:
                return key_text(dns.name.from_text(text, idna_codec=dns.name.IDNA_2003).to_text())
        name = dns.name.from_text(text)
    except (dns.exception.DNSException, ValueError):
        return None
    return reverse_address(name) if is_reverse(name) else name_text(name)


def read_heading(payload: bytes) -> Heading | None:
    """Return header and question of a message; None without exactly one readable question."""
    parser = dns.wire.Parser(payload)
    try:
        number, flags, questions, answers, _authority, _additional = parser.get_struct("!HHHHHH")
        if questions != 1:
            return None
        name = dns.name.from_wire_parser(parser)
        return Heading(number, flags, (name, *parser.get_struct("!HH")), answers, parser.current)
    except dns.exception.DNSException:
        return None


def read_answers(payload: bytes) -> list[Record]:
    """Return the usable answer records of a message that counts; none for any other."""
    heading = read_heading(payload)
    if heading is None or not heading.counts:
        return []
    return [record for record in read_all_answers(payload, heading) if record.rdata is not None]


def read_all_answers(payload: bytes, heading: Heading) -> list[Record]:
    """Return the answer records of a message, also those that make no relations."""
    parser = dns.wire.Parser(payload)
    parser.seek(heading.end)
    return list(read_records(parser, heading.answers))


def read_records(parser: dns.wire.Parser, count: int) -> Iterator[Record]:
    """Yield the records before broken framing, without the records that dnspython refuses."""
    for _ in range(count):
        try:
            owner = dns.name.from_wire_parser(parser)
            rdtype, klass, ttl, length = parser.get_struct("!HHIH")
            end = parser.current + length
            if length > parser.remaining():
                return
        except dns.exception.DNSException:
            return
        kind, rdata = dns.rdatatype.to_text(rdtype), None
        ttl = 0 if ttl >= TTL_SIGN_BIT else min(ttl, TTL_CAP)
        if klass == dns.rdataclass.IN:
            try:
                if kind in KINDS:
                    with parser.restrict_to(length):
                        rdata = dns.rdata.from_wire_parser(klass, rdtype, parser)
                yield Record(owner, kind, ttl, rdata)
            except dns.exception.DNSException:
                pass
        parser.seek(end)
