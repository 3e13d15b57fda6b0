"""Damaged, odd and hostile messages: the decoder reads their whole part, in bounded time."""

from __future__ import annotations

import struct
import time

import pytest

from builders.dns_builders import AAAA, CNAME, HTTPS, TXT, A, asked, by_hand, record, reply, rr, wire
from builders.hostile import BOMBS, HEAD, MESSAGE_LIMIT, ONE, QUESTION, P, bomb, chained, pointer
from dnstrail.dns import decode
from dnstrail.dns.message import MAX_BINDINGS
from dnstrail.dns.names import MAX_KNOWN, MAX_POINTERS, read_name
from dnstrail.errors import BadMessage

MX, SRV, SVCB = 15, 33, 64
NAME = wire("t.example")
WITH_4 = b"\x0b123456789\x00\x04\x00"  # an owner that holds 4 where a record behind a pointer holds its length
GOOD = record(P, A, ONE)

# Bytes between two good addresses, and whether they are read, skipped (counted), ignored, or end the message.
IN_BETWEEN = {
    "A": (record(P, A, ONE), "read"),
    "A of 0 bytes": (record(P, A, b""), "skipped"),
    "A of 3 bytes": (record(P, A, bytes(3)), "skipped"),
    "A of 5 bytes": (record(P, A, bytes(5)), "skipped"),
    "A of 3 bytes behind a name": (record(WITH_4, A, bytes(3)), "skipped"),
    "A of 4 bytes behind a name": (record(WITH_4, A, ONE), "read"),
    "A of 16 bytes behind a name": (record(WITH_4, A, bytes(16)), "skipped"),
    "AAAA of 15 bytes": (record(P, AAAA, bytes(15)), "skipped"),
    "AAAA of 16 bytes": (record(P, AAAA, bytes(16)), "read"),
    "AAAA of 17 bytes": (record(P, AAAA, bytes(17)), "skipped"),
    "AAAA of 4 bytes": (record(P, AAAA, ONE), "skipped"),
    "CNAME": (record(P, CNAME, NAME), "read"),
    "CNAME of 0 bytes": (record(P, CNAME, b""), "skipped"),
    "CNAME that runs past its RDATA": (record(P, CNAME, NAME[:-1]), "skipped"),
    "CNAME cut in its pointer": (record(P, CNAME, b"\xc0"), "skipped"),
    "CNAME with bytes behind it": (record(P, CNAME, NAME + b"\x00"), "skipped"),
    "MX": (record(P, MX, b"\x00\x0a" + NAME), "read"),
    "MX with bytes behind it": (record(P, MX, b"\x00\x0a" + NAME + b"junk"), "skipped"),
    "MX without an exchange": (record(P, MX, b"\x00\x0a"), "skipped"),
    "MX of 1 byte": (record(P, MX, b"\x00"), "skipped"),
    "SRV": (record(P, SRV, bytes(6) + NAME), "read"),
    "SRV with a compressed target": (record(P, SRV, bytes(6) + P), "read"),
    "SRV of 6 bytes": (record(P, SRV, bytes(6)), "skipped"),
    "HTTPS": (record(P, HTTPS, b"\x00\x01\x00"), "read"),
    "HTTPS of 1 byte": (record(P, HTTPS, b"\x00"), "skipped"),
    "HTTPS with a compressed target": (record(P, HTTPS, b"\x00\x01" + P), "skipped"),
    "HTTPS with a parameter past its RDATA": (record(P, HTTPS, b"\x00\x01\x00\x00\x04\x00\x08" + ONE), "skipped"),
    "HTTPS with an ipv4hint of 3 bytes": (record(P, HTTPS, b"\x00\x01\x00\x00\x04\x00\x03abc"), "skipped"),
    "SVCB with parameters out of order": (
        record(P, SVCB, b"\x00\x01\x00\x00\x04\x00\x04" + ONE + b"\x00\x03\x00\x02\x01\xbb"),
        "skipped",
    ),
    "TXT without a string": (record(P, TXT, b"\xff"), "ignored"),
    "unknown type": (record(P, 65280, b"\xff"), "ignored"),
    "A of class CH": (record(P, A, ONE, klass=3), "ignored"),
    "A of class ANY, empty": (record(P, A, b"", klass=255), "ignored"),
    "owner that points at itself": (record(pointer(HEAD + 16), A, ONE), "the end"),
    "owner that points forward": (record(pointer(HEAD + 18), A, ONE), "the end"),
    "owner that points past the message": (record(b"\xff\xff", A, ONE), "the end"),
    "owner with a label of type 0x40": (record(b"\x41a\x00", A, ONE), "the end"),
    "owner with a label of type 0x80": (record(b"\x80a\x00", A, ONE), "the end"),
    "target that points at itself": (record(P, CNAME, pointer(HEAD + 16 + 12)), "skipped"),
    "target that points forward": (record(P, CNAME, pointer(HEAD + 16 + 14)), "skipped"),
    "target with a label of type 0x40": (record(P, CNAME, b"\x41a\x00"), "skipped"),
    "target with a label of type 0x80": (record(P, CNAME, b"\x80a\x00"), "skipped"),
    "target of 255 bytes": (record(P, CNAME, b"\x01a" * 127 + b"\x00"), "read"),
    "target of 256 bytes": (record(P, CNAME, b"\x01a" * 126 + b"\x02aa\x00"), "skipped"),
    "owner of 255 bytes": (record(b"\x01a" * 127 + b"\x00", A, ONE), "read"),
    "owner of 256 bytes": (record(b"\x01a" * 126 + b"\x02aa\x00", A, ONE), "the end"),
    "owner of 255 bytes by a pointer": (record(b"\x01a" * 121 + b"\x01a" + P, A, ONE), "read"),
    "owner of 257 bytes by a pointer": (record(b"\x01a" * 122 + b"\x01a" + P, A, ONE), "the end"),
    "RDATA past the message": (P + struct.pack("!HHIH", A, 1, 300, 400) + ONE, "the end"),
}
SHOWN = {"read": (3, 0, False), "skipped": (2, 1, False), "ignored": (2, 0, False), "the end": (1, 0, True)}


@pytest.mark.parametrize(("odd", "fate"), IN_BETWEEN.values(), ids=IN_BETWEEN)
def test_one_odd_record_costs_no_other(odd: bytes, fate: str) -> None:
    """Bad RDATA is skipped and counted, other types are ignored, and broken framing ends the message."""
    message = decode(by_hand(QUESTION, GOOD, odd, GOOD))
    assert (len(message.answers), message.skipped, message.damaged) == SHOWN[fate]


@pytest.mark.parametrize(
    ("name", "length"), [(b"\x01a" * 127 + b"\x00", 255), (b"\x01a" * 126 + b"\x02aa\x00", 256), (b"\x00", 1)]
)
def test_a_name_has_at_most_255_bytes(name: bytes, length: int) -> None:
    """A question's name of 255 bytes is read, and a name of 256 bytes is not."""
    assert len(name) == length
    if length > 255:
        with pytest.raises(BadMessage):
            decode(by_hand(asked(name), GOOD))
    else:
        assert decode(by_hand(asked(name), GOOD)).name == (".".join(["a"] * 127) if length > 1 else ".")


@pytest.mark.parametrize("pointers", range(1, MAX_POINTERS + 3))
@pytest.mark.parametrize("warm", [False, True], ids=["from scratch", "from what is known"])
def test_a_name_has_at_most_16_pointers(pointers: int, warm: bool) -> None:
    """A name with 16 pointers is read, and one with 17 is not, whether its parts are known or not."""
    wire_ = b"\x01a\x00" + b"".join(b"\x01b" + pointer(max(0, 4 * n - 1)) for n in range(pointers))
    starts = [3 + 4 * n for n in range(pointers)]
    known: dict = {}
    for start in starts[:-1] if warm and pointers <= MAX_POINTERS + 1 else []:
        read_name(wire_, start, len(wire_), known)
    name = read_name(wire_, starts[-1], len(wire_), known)
    if pointers > MAX_POINTERS:
        assert name is None
    else:
        assert (name.text, name.end) == (".".join("b" * pointers + "a"), len(wire_))


@pytest.mark.parametrize(("links", "read"), [(MAX_POINTERS - 1, True), (MAX_POINTERS, False)])
def test_a_pointer_alone_counts_like_any_other(links: int, read: bool) -> None:
    """A name that is only a pointer has one pointer more than the name at its target."""
    wire_ = b"\x01a\x00" + b"".join(b"\x01b" + pointer(max(0, 4 * n - 1)) for n in range(links))
    wire_ += pointer(4 * links - 1)
    known: dict = {}
    text = ".".join("b" * links + "a")
    assert read_name(wire_, 4 * links - 1, len(wire_), known).text == text
    name = read_name(wire_, len(wire_) - 2, len(wire_), known)
    if read:
        assert (name.text, name.end) == (text, len(wire_))
    else:
        assert name is None


def test_an_owner_is_bound_by_what_its_name_holds() -> None:
    """A pointer of an owner to a known name obeys the bound on pointers and the rule that names end before them."""
    hidden, end = chained(b"\x01a", MAX_POINTERS - 1)
    alias = record(P, CNAME, b"\x01b" + pointer(end))
    alias_target = HEAD + sum(map(len, hidden)) + 12
    deep = decode(by_hand(QUESTION, *hidden, alias, record(pointer(alias_target), A, ONE), GOOD))
    assert (len(deep.answers), deep.skipped, deep.damaged) == (1, 0, True)
    last_byte = HEAD + 12
    label = record(P, TXT, bytes([16]))  # it covers the next record up to the first 0 behind its owner
    early = by_hand(QUESTION, label, record(P, CNAME, pointer(last_byte)), record(pointer(last_byte), A, ONE), GOOD)
    overlapping = decode(early)
    assert (len(overlapping.answers), overlapping.skipped, overlapping.damaged) == (0, 1, True)


HEADERS = {
    "nothing": b"",
    "11 bytes": bytes(11),
    "response, no question": struct.pack("!6H", 1, 0x8180, 1, 1, 0, 0),
    "question cut in its name": by_hand(b"\x01q"),
    "question cut in its class": by_hand(QUESTION[:-1]),
    "question that points at itself": by_hand(asked(b"\xc0\x0c")),
    "question that points at the header": by_hand(asked(b"\xc0\x0b")),
    "question of label type 0x40": by_hand(asked(b"\x40\x00")),
}


@pytest.mark.parametrize("wire_", HEADERS.values(), ids=HEADERS)
def test_without_header_or_question_there_is_no_message(wire_: bytes) -> None:
    """A message whose header or question is cut short is refused."""
    if wire_ == HEADERS["question that points at the header"]:
        wire_ = wire_[:11] + b"\xc1" + wire_[12:]  # otherwise the header there reads as the root
    with pytest.raises(BadMessage):
        decode(wire_)


@pytest.mark.parametrize("counts", ["1 2 0", "1 65535 0"])
def test_counts_that_promise_more_than_is_there(counts: str) -> None:
    """A message with fewer records than its header promises is read to its end and marked as damaged."""
    message = decode(by_hand(QUESTION, GOOD, counts=counts))
    assert ([record.target for record in message.answers], message.damaged) == (["1.1.1.1"], True)


def test_counts_that_promise_less_than_is_there() -> None:
    """Only as many records are read as the header promises; the rest belongs to other sections."""
    message = decode(by_hand(QUESTION, GOOD, GOOD, counts="1 1 1"))
    assert (len(message.answers), message.damaged) == (1, False)


@pytest.mark.parametrize(("counts", "flags"), [("0 1 0", 0x8180), ("2 1 0", 0x8180), ("1 1 0", 0x0100)])
def test_only_responses_to_one_question_are_read_further(counts: str, flags: int) -> None:
    """Only the header is read of a query, and of a message with no question or several."""
    message = decode(by_hand(QUESTION, GOOD, counts=counts, flags=flags))
    assert (message.name, message.answers, message.answer_count) == ("", [], 1)


def test_what_is_whole_of_a_cut_message_counts() -> None:
    """A message that is cut at any byte gives the first of its records, and never fewer with more bytes."""
    records = [rr("q.example", "CNAME", "c.example"), rr("c.example", "A", "1.1.1.1"), rr("c.example", "AAAA", "::1")]
    records += [rr("c.example", "MX", "10 m.example"), rr("c.example", "HTTPS", "1 . ipv4hint=1.1.1.1")]
    whole = reply("q.example", "A", *records)
    question_end = 12 + len(QUESTION)
    read = 0
    for length in range(question_end, len(whole)):
        message = decode(whole[:length])
        assert message.damaged
        assert message.answers == decode(whole).answers[: len(message.answers)]
        assert len(message.answers) in (read, read + 1)
        read = len(message.answers)
    assert (read, len(decode(whole).answers), decode(whole).damaged) == (4, 5, False)
    for length in range(question_end):
        with pytest.raises(BadMessage):
            decode(whole[:length])


MOST_WORK = 20.0  # seconds of the processor, of which a message takes a small part
CROWDED = {  # their owners have too many names
    "every label an odd byte",
    "every owner an odd name",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_read_to_its_end(name: str) -> None:
    """A message of up to 64 KiB that is built to be slow is read in bounded time, with every record accounted for."""
    wire_ = BOMBS[name]
    assert 60_000 < len(wire_) <= MESSAGE_LIMIT
    began = time.process_time()
    message = decode(wire_)
    assert time.process_time() - began < MOST_WORK
    assert message.damaged is (name in CROWDED)
    if message.damaged:
        return
    hidden = wire_.count(P + struct.pack("!HH", TXT, 1))
    assert len(message.answers) + message.skipped + hidden == message.answer_count


class Looked(bytes):
    """Bytes that count the accesses to them from Python."""

    looks = 0

    def __getitem__(self, key):
        self.looks += 1
        return super().__getitem__(key)


@pytest.mark.parametrize("wire_", BOMBS.values(), ids=BOMBS)
def test_what_is_known_bounds_the_work(wire_: bytes) -> None:
    """No message causes more accesses to its bytes than it has bytes."""
    looked = Looked(wire_)
    decode(looked)
    assert looked.looks < len(wire_)


def test_names_of_a_message_are_bounded() -> None:
    """Beyond the bound on names, records with a name in their RDATA are skipped; others with a known owner count."""
    aliases = [record(P, CNAME, b"\x04%04d\x00" % number) for number in range(MAX_KNOWN + 9)]
    message = decode(by_hand(QUESTION, *aliases, record(P, CNAME, P), GOOD))
    targets = [one.target for one in message.answers]
    assert targets == [*(f"{number:04}" for number in range(MAX_KNOWN - 1)), "1.1.1.1"]
    assert (message.skipped, message.damaged) == (11, False)


@pytest.mark.parametrize("rdtype", [SVCB, HTTPS])
def test_service_bindings_of_a_message_are_bounded(rdtype: int) -> None:
    """Beyond the bound on service bindings, others are skipped; further records count."""
    binding = record(P, rdtype, b"\x00\x01\x00\x00\x04\x00\x04" + ONE)
    message = decode(by_hand(QUESTION, *[binding] * (MAX_BINDINGS + 9), GOOD))
    assert [one.type for one in message.answers] == [rdtype] * MAX_BINDINGS + [A]
    assert (message.skipped, message.damaged) == (9, False)


def test_owners_of_a_message_are_bounded() -> None:
    """Beyond the bound on names, a record whose owner is another name ends the message like a broken one."""
    owners = [record(b"\x04%04d\x00" % number, A, ONE) for number in range(MAX_KNOWN + 9)]
    message = decode(by_hand(QUESTION, *owners, GOOD))
    assert (len(message.answers), message.skipped, message.damaged) == (MAX_KNOWN - 1, 0, True)


def test_labels_that_are_read_one_by_one_count_like_names() -> None:
    """Odd labels count for the bound on names, also if their name is too long; the name before them is read."""
    long = record(P, CNAME, b"\x01\xff" * 5000 + b"\x00")
    message = decode(by_hand(QUESTION, record(P, CNAME, b"\x01\xff\x00"), long, record(P, CNAME, b"\x01a\x00"), GOOD))
    assert [one.target for one in message.answers] == ["\\255", "1.1.1.1"]
    assert (message.skipped, message.damaged) == (2, False)


def test_a_bomb_is_a_bomb() -> None:
    """The chains of the bombs are exactly as deep as the bound: one link more is refused."""
    deepest = decode(bomb(b"\x01a", MAX_POINTERS - 1))
    assert deepest.answers[0].target == deepest.answers[-1].target == ".".join(["a"] * MAX_POINTERS)
    assert decode(bomb(b"\x01a", MAX_POINTERS)).answers == []
