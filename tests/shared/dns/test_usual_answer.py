"""The usual answer in one pass, against the whole decoder: both state the same, or the answer is not usual."""

from __future__ import annotations

from collections import Counter
from contextlib import closing, suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from builders.corpus import CAPTURES, CORPUS
from builders.costly import COSTLY, calls_in
from builders.dns_builders import AAAA, CNAME, TXT, A, asked, by_hand, record, response_to, wire
from builders.hostile import BOMBS, HEAD, ONE, QUESTION, P, pointer
from builders.traffic import mutants
from dnstrail.dns import decode
from dnstrail.dns.header import IN, QR, read_header
from dnstrail.errors import BadMessage, CaptureError
from dnstrail.image.answer import Answer
from dnstrail.image.relate import relate, relate_usual
from dnstrail_probe.registry import open_source

MX = 15
MOST = 4096


def stated(payload: bytes) -> Answer | None:
    """Return what the one pass states, and assert that the decoder states the same; None if it leaves the answer."""
    try:
        header = read_header(payload)
    except BadMessage:
        return None
    if not header.flags & QR or not header.question or header.asked.cls != IN or header.answer_count == 0:
        return None
    usual = relate_usual(payload, header, MOST)
    if usual is not None:
        decoded, counters = decode(payload), Counter()
        answer = relate(decoded, counters, MOST)
        for field in ("question", "type", "edges", "lives"):
            assert getattr(usual, field) == getattr(answer, field)
        assert (decoded.skipped, decoded.damaged, counters) == (0, False, Counter())
    return usual


ADDRESS, ALIAS = record(P, A, ONE), record(P, CNAME, wire("t.example"))
TARGET = pointer(HEAD + 12)
USUAL = {
    "an address": [ADDRESS],
    "two addresses": [ADDRESS, record(P, A, bytes(4))],
    "an IPv6 address": [record(P, AAAA, bytes(15) + b"\x01")],
    "an IPv6 address that is IPv4": [record(P, AAAA, bytes(10) + b"\xff\xff" + ONE)],
    "an alias and its address": [ALIAS, record(TARGET, A, ONE)],
    "an alias that ends in the question": [record(P, CNAME, b"\x01w" + P), record(TARGET, A, ONE)],
    "an alias that is the end of the question": [record(P, CNAME, pointer(14)), record(pointer(14), A, ONE)],
    "a pointer to a pointer": [record(P, CNAME, pointer(14)), record(TARGET, A, ONE)],
    "14 exchanges": [record(P, MX, b"\x00\x0a\x01" + bytes([97 + number]) + P) for number in range(14)],
    "an exchange": [record(P, MX, b"\x00\x0a" + wire("m.example"))],
    "a target with 64 labels": [record(P, CNAME, b"\x01a" * 64 + P)],
    "a TTL of 2^31": [record(P, A, ONE, 2**31)],
}
UNUSUAL = {
    "the same address twice": [ADDRESS, record(P, A, ONE, 5)],
    "an address before its alias": [record(wire("t.example"), A, ONE), ALIAS],
    "an owner without a pointer": [record(wire("q.example"), A, ONE)],
    "an owner in the middle of the question": [record(pointer(14), A, ONE)],
    "an owner in the middle of a target": [ALIAS, record(pointer(HEAD + 14), A, ONE)],
    "an owner that points forward": [record(pointer(HEAD + 200), A, ONE)],
    "another type": [ADDRESS, record(P, TXT, b"\x01x")],
    "another class": [ADDRESS, record(P, A, bytes(4), klass=3)],
    "an address of three bytes": [record(P, A, bytes(3))],
    "an address of five bytes": [record(P, A, bytes(5))],
    "an alias with a byte behind it": [record(P, CNAME, wire("t.example") + b"\x00")],
    "an alias to a literal": [record(P, CNAME, wire("1.1.1.1"))],
    "an alias to a reverse name": [record(P, CNAME, wire("1.in-addr.arpa"))],
    "an alias to the root": [record(P, CNAME, b"\x00")],
    "15 exchanges": [record(P, MX, b"\x00\x0a\x01" + bytes([97 + number]) + P) for number in range(15)],
    "a target with 65 labels": [record(P, CNAME, b"\x01a" * 65 + P)],
    "an alias within a pointer": [record(P, CNAME, b"\x01w" + P), record(P, CNAME, pointer(HEAD + 15))],
    "an exchange of one byte": [record(P, MX, b"\x00")],
    "a record cut short": [ADDRESS[:-1]],
}


@pytest.mark.parametrize("records", USUAL.values(), ids=USUAL)
def test_usual_answers_are_read_in_one_pass(records):
    """Chains of aliases and addresses in their order are read in one pass, as the decoder reads them."""
    assert stated(by_hand(QUESTION, *records)) is not None


@pytest.mark.parametrize("records", UNUSUAL.values(), ids=UNUSUAL)
def test_other_answers_are_left_to_the_decoder(records):
    """Any other answer is left to the decoder."""
    assert stated(by_hand(QUESTION, *records)) is None


@pytest.mark.parametrize("name", ["1.1.1.1", "4.3.2.1.in-addr.arpa", "."])
def test_a_question_without_relations_is_left_to_the_decoder(name):
    """A question about a literal, a reverse name or the root is not usual."""
    assert stated(by_hand(asked(wire(name)), ADDRESS)) is None


def test_more_records_than_a_message_has_are_left_to_the_decoder():
    """A count of answers beyond the end of the message is not usual."""
    assert stated(by_hand(QUESTION, ADDRESS, counts="1 2 0")) is None


@pytest.mark.parametrize(("records", "usual"), [(512, True), (513, False)])
def test_answers_of_many_records_are_left_to_the_decoder(records, usual):
    """An answer of more than 512 records is read by the decoder alone: a late record cannot make a pass useless."""
    addresses = [record(P, A, number.to_bytes(4)) for number in range(records)]
    assert (stated(by_hand(QUESTION, *addresses)) is not None) is usual


@given(st.one_of(mutants(), st.binary(max_size=80).map(lambda tail: by_hand(QUESTION, counts="1 2 0") + tail)))
@example(response_to("a", "a CNAME b", "b CNAME c.b", "c.b A 1.1.1.1"))
def test_both_readers_agree_on_any_message(payload):
    """Whatever the bytes, the one pass states what the decoder states, or leaves the answer to it."""
    stated(payload)


HOSTILE = {**BOMBS, **COSTLY}


@pytest.mark.parametrize("case", HOSTILE)
def test_both_readers_agree_on_hostile_messages(case):
    """Bombs of pointers, long names and large tables are read alike, and the one pass does no more work."""
    payload = HOSTILE[case]
    stated(payload)
    header = read_header(payload)
    whole = calls_in(lambda: decode(payload))
    assert calls_in(lambda: relate_usual(payload, header, MOST)) <= whole + 10 * header.answer_count


@pytest.mark.corpus
@pytest.mark.skipif(CORPUS is None, reason="DNSTRAIL_CORPUS names no folder of captures")
@pytest.mark.parametrize("path", CAPTURES[::5], ids=lambda path: path.name)
def test_both_readers_agree_on_captures(path):
    """Every response of real captures is read alike."""
    with suppress(CaptureError), closing(open_source(str(path))) as source:  # some are broken on purpose
        while (captured := source.read(100)) is not None:
            for _, event in captured:
                stated(event.payload)
