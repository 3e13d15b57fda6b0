"""The decoder against dnspython: both read the same from a message, or both refuse it."""

from __future__ import annotations

import random

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdata
import dns.rrset
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from builders.dns_builders import reply, rr
from builders.hostile import BOMBS
from dnstrail.dns import Message, decode
from dnstrail.dns.names import read_name
from dnstrail.errors import BadMessage
from model.by_dnspython import disagreement, read_all, records_of, text_of

labels = st.one_of(
    st.sampled_from([b"a", b"b", b"WWW", b"example", b"_tcp", b"com"]),
    st.binary(min_size=1, max_size=5),
    st.sampled_from([b"a" * 31, b"B" * 32, b"-" * 33, b"1" * 45, b"c" * 63, b" " * 32, b"\x20", b"\x01", b"."]),
)
names = st.lists(labels, min_size=0, max_size=5).map(lambda parts: dns.name.Name([*parts, b""]))
ttls = st.one_of(st.integers(0, 2**31 - 1), st.sampled_from([0, 1, 300, 604800, 604801]))
shorts = st.integers(0, 65535)
v4 = st.ip_addresses(v=4).map(str)
v6 = st.one_of(st.ip_addresses(v=6), st.ip_addresses(v=6, network="::ffff:0:0/96")).map(str)


def from_wire(kind: str, data: bytes) -> dns.rdata.Rdata:
    """Return RDATA from uncompressed bytes, which may contain names that have no text form."""
    return dns.rdata.from_wire("IN", kind, data, 0, len(data))


@st.composite
def service_bindings(draw) -> tuple[str, dns.rdata.Rdata]:
    """Return an SVCB or HTTPS record in AliasMode, or in ServiceMode with some parameters."""
    kind, target = draw(st.sampled_from(["SVCB", "HTTPS"])), draw(names).to_wire()
    if draw(st.booleans()):
        return kind, from_wire(kind, b"\x00\x00" + target)
    params = {
        "alpn": draw(st.none() | st.sampled_from(["h2", "h2,h3"])),
        "port": draw(st.none() | shorts),
        "ipv4hint": draw(st.none() | st.lists(v4, min_size=1, max_size=3).map(",".join)),
        "ipv6hint": draw(st.none() | st.lists(v6, min_size=1, max_size=3).map(",".join)),
        "key65000": draw(st.none() | st.just("x")),
    }
    text = " ".join(["1 ."] + [f"{key}={value}" for key, value in params.items() if value is not None])
    tail = dns.rdata.from_text("IN", kind, text).to_wire()[3:]
    return kind, from_wire(kind, draw(st.integers(1, 65535)).to_bytes(2) + target + tail)


def named(kind: str, head: int) -> st.SearchStrategy:
    """Return RDATA of some bytes and a name."""
    return st.tuples(st.binary(min_size=head, max_size=head), names).map(
        lambda parts: (kind, from_wire(kind, parts[0] + parts[1].to_wire()))
    )


rdatas = st.one_of(
    v4.map(lambda text: ("A", dns.rdata.from_text("IN", "A", text))),
    v6.map(lambda text: ("AAAA", dns.rdata.from_text("IN", "AAAA", text))),
    *(named(kind, head) for kind, head in (("CNAME", 0), ("PTR", 0), ("NS", 0), ("MX", 2), ("SRV", 6))),
    service_bindings(),
    st.binary(max_size=20).map(lambda data: ("TXT", from_wire("TXT", bytes([len(data)]) + data))),
    st.binary(max_size=20).map(lambda data: ("TYPE65280", from_wire("TYPE65280", data))),
)


@st.composite
def messages(draw) -> bytes:
    """Return a response of mixed records and compressed names, with or without EDNS and other sections."""
    question = draw(names)
    pool = [question, *draw(st.lists(names, max_size=3))]
    message = dns.message.make_query(question, draw(st.sampled_from(["A", "PTR", "HTTPS", "ANY"])), id=draw(shorts))
    message.flags = dns.flags.QR | draw(st.sampled_from([0, dns.flags.TC, dns.flags.AA | 3]))
    rows = draw(st.lists(st.tuples(st.sampled_from(pool), ttls, rdatas), max_size=8))
    message.answer = [dns.rrset.from_rdata(owner, ttl, rdata) for owner, ttl, (_, rdata) in rows]
    message.additional = [rr("ns.example", "A", "192.0.2.1")] * draw(st.integers(0, 1))
    if draw(st.booleans()):
        message.use_edns(0, payload=1232)
    return message.to_wire(max_size=65535)


@given(messages())
def test_a_whole_message_is_read_as_dnspython_reads_it(wire: bytes) -> None:
    """Question, flags and every record are what dnspython reads, in the same order."""
    parsed = dns.message.from_wire(wire, one_rr_per_rrset=True)
    message = decode(wire)
    assert message.answers == records_of(parsed)
    assert (message.id, message.flags) == (parsed.id, int(parsed.flags))
    asked = parsed.question[0]
    assert (message.name, message.type, message.cls) == (text_of(asked.name), asked.rdtype, asked.rdclass)
    assert (message.skipped, message.damaged, message.answer_count) == (0, False, len(parsed.answer))


@given(messages(), st.lists(names, min_size=1, max_size=3))
def test_a_message_of_several_questions_is_read_no_further(wire: bytes, more: list[dns.name.Name]) -> None:
    """Only the header is read of a message with several questions, although dnspython reads more."""
    asked = dns.message.from_wire(wire)
    asked.question += [dns.rrset.RRset(name, 1, 28) for name in more]
    wire = asked.to_wire(max_size=65535)
    message = decode(wire)
    assert message == Message(wire, asked.id, int(asked.flags), message.answer_count)


@given(
    st.one_of(st.binary(max_size=100), st.binary(max_size=60).map(lambda tail: b"\0\1\x81\x80\0\1\0\5\0\0\0\0" + tail))
)
def test_any_bytes_are_a_message_or_a_bad_one(wire: bytes) -> None:
    """Any bytes give a Message or raise BadMessage, and nothing else."""
    try:
        assert isinstance(decode(wire), Message)
    except BadMessage:
        assert len(wire) < 12 or wire[2] & 0x80


@st.composite
def mutants(draw) -> bytes:
    """Return a valid message with some bytes flipped, cut out or inserted."""
    wire = bytearray(draw(messages()))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(wire)))
        match draw(st.sampled_from(["flip", "cut", "insert", "end"])):
            case "flip":
                wire[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "cut":
                del wire[at : at + draw(st.integers(1, 4))]
            case "insert":
                wire[at:at] = draw(st.binary(min_size=1, max_size=4) | st.just(b"\xc0\x0c"))
            case "end":
                del wire[at:]
    return bytes(wire)


@given(mutants())
def test_a_damaged_message_is_read_as_far_as_dnspython_reads_it(wire: bytes) -> None:
    """The question and records of a damaged message are what dnspython reads, or both refuse it."""
    assert not disagreement(wire)


POINTER_RICH = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=3),
        st.just(b"\x00"),
        st.binary(max_size=4).map(lambda label: bytes([len(label)]) + label),
        st.integers(0, 60).map(lambda offset: bytes([0xC0, offset])),
        st.just(b"\x01a" * 60),
    ),
    max_size=24,
).map(b"".join)


def read_both(wire: bytes, start: int, known: dict) -> tuple[object, object]:
    """Return the name at an offset and its end, by us and by dnspython; None where it is refused."""
    name = read_name(wire, start, len(wire), known)
    ours = None if name is None else (name.text, name.end)
    try:
        read, used = dns.name.from_wire(wire, start)
        theirs = text_of(read), start + used
    except (dns.exception.DNSException, IndexError):
        theirs = None
    return ours, theirs


@given(POINTER_RICH, st.randoms(use_true_random=False))
@example(b"\x01a\x00\xc0\x00\xc0\x03\xc0\x05", random.Random(0))
@example(b"\x03a\xc0\x00\x00\xc0\x01", random.Random(0))
@example(b"\x03\x03ab\x00\xc0\x00", random.Random(0))
def test_names_are_read_as_dnspython_reads_them(wire: bytes, chance: random.Random) -> None:
    """At every offset, in any order and with any names known before, a name is what dnspython reads or refused."""
    known: dict = {}
    starts = [*range(len(wire))] * 2
    chance.shuffle(starts)
    for start in starts:
        ours, theirs = read_both(wire, start, known)
        assert ours == theirs, start


READ_SLOWLY = {  # dnspython needs seconds for each
    "names too long by far",
    "names of odd bytes that overlap",
    "names of ordinary bytes that overlap",
    "names that overlap and have no end",
    "aliases that look like addresses",
}
READ_FAST = {name: wire for name, wire in BOMBS.items() if name not in READ_SLOWLY}


@pytest.mark.parametrize("wire", READ_FAST.values(), ids=READ_FAST)
def test_a_bomb_holds_what_dnspython_finds_in_it(wire: bytes) -> None:
    """The records of hostile messages are what dnspython reads, in their order, until they have too many names."""
    ours, theirs = decode(wire), records_of(read_all(wire))
    assert ours.answers == theirs[: len(ours.answers)]
    assert len(ours.answers) == len(theirs) or len(ours.answers) + ours.skipped >= len(theirs) or ours.damaged


@pytest.mark.parametrize("ttl", [0, 604801, 2**31 - 1, 2**31, 2**32 - 1])
def test_a_ttl_is_read_as_it_stands(ttl: int) -> None:
    """A TTL is read as 32 bits without a sign; its meaning is decided elsewhere."""
    wire = reply("a.com", "A", rr("a.com", "A", "1.1.1.1", 0x01020304)).replace(b"\1\2\3\4", ttl.to_bytes(4))
    assert [record.ttl for record in decode(wire).answers] == [ttl]
