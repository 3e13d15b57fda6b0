"""What a signature reads from the DNS message of an event, and the bounds of it."""

from __future__ import annotations

import dns.rdata
import pytest
from hypothesis import example, given

from builders.costly import COSTLY, calls_in
from builders.dns_builders import A, asked, by_hand, record, response_to, wire
from builders.hostile import ONE, QUESTION, P
from builders.traffic import mutants
from dnstrail.captured import ASKER_SEEN, Captured, Flow
from dnstrail.dns import ResourceRecord, decode
from dnstrail.dns.header import QR
from dnstrail.dns.rdata import ADDRESSES
from dnstrail.dns.whole_message import MAX_READS, MAX_RECORDS
from dnstrail.errors import BadMessage
from dnstrail.events import NET_PACKET_DNS, Event, Question

QUERY = by_hand(asked(wire("Q.example")), flags=0x0100)
CALLS = 1_000_000  # of one message that dnspython parses to the bound


def event(payload: bytes) -> Event:
    """Return an event that carries a payload."""
    return Event(NET_PACKET_DNS, Captured(1, payload))


def test_an_event_has_the_question_and_the_answers_of_a_response() -> None:
    """Question and answers are in the form of lookups; types are numbers."""
    response = event(response_to("A.com", "A.com CNAME B.net", "B.net A 1.1.1.1 ttl=7", "B.net TXT x"))
    assert response.question == Question("a.com", 1, 1)
    assert response.answers == (ResourceRecord("a.com", 5, 300, "b.net"), ResourceRecord("b.net", 1, 7, "1.1.1.1"))
    assert response.dns is not None
    assert (len(response.dns.answer), response.dns_error) == (3, "")


@pytest.mark.parametrize(
    ("payload", "question"),
    [
        (QUERY, Question("q.example", 1, 1)),
        (b"", None),
        (bytes(12), None),
        (QUERY[:-1], None),
        (by_hand(QUESTION * 2, counts="2 0 0"), None),
    ],
    ids=["a query", "no payload", "no question", "cut short", "two questions"],
)
def test_a_message_without_one_question_has_no_question(payload: bytes, question: Question | None) -> None:
    """The question is None unless the message has exactly one; a query has no answers."""
    assert event(payload).question == question
    assert event(payload).answers == ()


def test_a_damaged_response_has_the_answers_before_the_damage() -> None:
    """The answers before a damage are read."""
    whole = by_hand(QUESTION, record(P, A, ONE), record(P, A, ONE))
    assert event(whole[:-1]).answers == (ResourceRecord("q.example", 1, 300, "1.1.1.1"),)


@given(mutants())
@example(by_hand(QUESTION, record(P, A, ONE), record(P, A, ONE, ttl=7)))
@example(by_hand(asked(b"\1\0\0"), record(P, A, ONE)))
def test_question_and_addresses_are_those_of_the_whole_message(payload: bytes) -> None:
    """The fast passes state what the decoder states, of odd and damaged messages, too."""
    made = event(payload)
    try:
        message = decode(payload)
    except BadMessage:
        message = None
    if message is None or not message.flags & QR or payload[4:6] != b"\0\1":
        assert (made.answered, made.addresses) == (None, {})
    else:
        assert made.answered == Question(message.name, message.type, message.cls)
        assert made.addresses == {one.target: one.ttl for one in message.answers if one.type in ADDRESSES}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", ""),
        (b"x", "The DNS packet passed to from_wire() is too short."),
        (by_hand(QUESTION, *[record(P, A, ONE)] * MAX_RECORDS), f"{MAX_RECORDS + 1} records; at most {MAX_RECORDS}"),
        (COSTLY["aliases of 120 labels"], f"the message takes more than {MAX_READS} reads"),
    ],
    ids=["no payload", "too short", "too many records", "too many reads"],
)
def test_a_message_that_is_not_parsed_has_a_reason(payload: bytes, reason: str) -> None:
    """Where dnspython does not parse a payload, `dns` is None and `dns_error` names the reason."""
    assert event(payload).dns is None
    assert event(payload).dns_error.startswith(reason)
    assert bool(event(payload).dns_error) == bool(reason)


def test_a_message_within_the_bounds_can_be_read_afterwards() -> None:
    """The bound ends with the parsing: a signature may read the bytes of the message as often as it wants."""
    parsed = event(response_to("a.com", "a.com A 1.1.1.1")).dns
    assert parsed is not None
    assert type(parsed.wire) is bytes


@pytest.mark.parametrize("payload", COSTLY.values(), ids=COSTLY)
def test_no_message_costs_more_than_the_bound(payload: bytes) -> None:
    """The work of dnspython over one message is bounded, whatever its names and records are."""
    assert event(response_to("a.com", "a.com A 1.1.1.1")).dns  # the types are loaded
    assert calls_in(lambda: event(payload).dns) < CALLS


def test_dnspython_does_not_remember_every_type() -> None:
    """The table of dnspython for types that it does not know stays bounded."""
    for klass in range(1000, 1020):
        assert event(by_hand(QUESTION, *[record(P, 4000 + n, ONE, klass=klass) for n in range(500)])).dns
    assert len(dns.rdata._rdata_classes) < 5000


def test_a_capture_is_at_the_asker_unless_the_probe_states_otherwise():
    """The client's end, or the only capture, is at the asker."""
    flow = Flow(b"\x7f\0\0\1", 53, b"\x7f\0\0\1", 4000, role="client")
    client = Event(NET_PACKET_DNS, Captured(1, flow=flow))
    server = Event(NET_PACKET_DNS, Captured(1, args={ASKER_SEEN: True}))
    assert (client.at_asker, client.role) == (True, "client")
    assert (server.at_asker, server.role) == (False, "")
