"""The header and the only question of a message, against the decoder."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.dns_builders import AAAA, A, asked, by_hand, wire
from builders.hostile import BOMBS, QUESTION
from builders.traffic import message
from dnstrail.dns import decode
from dnstrail.dns.header import HEADER, IN, QR, read_header
from dnstrail.errors import BadMessage

LONG = b"\x3f" + b"a" * 63


def question(payload: bytes) -> bytes:
    return read_header(payload).question


@st.composite
def wires(draw) -> bytes:
    """Return a message of any kind, sometimes cut short or with a few wrong bytes."""
    payload = bytearray(message(Random(draw(st.integers(0, 10**6)))))
    for at, byte in draw(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=3)):
        if at < len(payload):
            payload[at] = byte
    return bytes(payload[: draw(st.sampled_from([len(payload), draw(st.integers(0, 60))]))])


@given(st.one_of(wires(), st.binary(max_size=60), st.sampled_from([*BOMBS.values()])))
def test_the_header_is_the_decoders(payload):
    """Header and question are those of the whole decoder, and both refuse the same responses."""
    try:
        header = read_header(payload)
    except BadMessage:
        header = None
    try:
        decoded = decode(payload)
    except BadMessage:
        assert header is None
        return
    response, questions = decoded.flags & QR, int.from_bytes(payload[4:6])
    if header is None:
        assert not response, "only the question of a query is not decoded"
        return
    assert (header.flags, header.answer_count) == (decoded.flags, decoded.answer_count)
    if response:
        assert bool(header.question) is (questions == 1)
    if response and questions == 1:
        assert (header.asked.type, header.asked.cls) == (decoded.type, decoded.cls)


@pytest.mark.parametrize(
    "name",
    [b"\x00", wire("a"), wire("A.eXample"), b"\x01\xff\x00", b"\x03a.b\x00", LONG + b"\x00", LONG * 3 + b"\x00"],
    ids=["root", "short", "mixed", "odd", "dot", "long label", "long name"],
)
def test_a_query_and_its_response_have_the_same_question(name):
    """Question and id of a response are those of its query, in whatever case the letters are."""
    query = by_hand(asked(name), flags=0x0100)
    for payload in (by_hand(asked(name)), by_hand(asked(name.upper())), by_hand(asked(name.lower()))):
        header = read_header(payload)
        assert header.question == question(query)
        assert (header.asked.cls, header.asked.end) == (IN, HEADER + len(name) + 4)


OTHERS = {
    "another id": b"\x00\x02" + by_hand(QUESTION)[2:],
    "another type": by_hand(asked(wire("q.example"), AAAA)),
    "another name": by_hand(asked(wire("r.example"), A)),
    "a dot in a label": by_hand(asked(b"\x09q.example\x00", A)),
}


@pytest.mark.parametrize("payload", OTHERS.values(), ids=OTHERS)
def test_another_question_differs(payload):
    """Another id, type or name, or the same letters in other labels, are another question."""
    assert question(payload) != question(by_hand(QUESTION))


@pytest.mark.parametrize("counts", ["0 1 0", "2 1 0"])
def test_with_another_number_of_questions_there_is_none(counts):
    """A message without a question, or with several, has no question to compare."""
    header = read_header(by_hand(QUESTION, counts=counts))
    assert (header.question, header.asked.cls, header.asked.end, header.asked.owner) == (b"", 0, HEADER, "")


@pytest.mark.parametrize("length", [0, 11, 12, 20, len(by_hand(QUESTION)) - 1])
def test_a_question_cut_short_is_refused(length):
    """A message shorter than its header or its question is refused."""
    with pytest.raises(BadMessage):
        read_header(by_hand(QUESTION)[:length])
