"""Selectors by the DNS message of an event: which signatures receive a message.

Tests of dnstrail_signatures.engine.selection.
"""

from __future__ import annotations

from collections import Counter

import dns.flags
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.traffic import mutants
from dnstrail.captured import Captured
from dnstrail.datasource import DataSources
from dnstrail.dns.rdata import PTR, A
from dnstrail.events import NET_PACKET_DNS, SCHED_PROCESS_EXIT, Event
from dnstrail.signature import EventSelector, Signature, SignatureMetadata
from dnstrail.testing import SignatureRun
from dnstrail_signatures.engine.engine import Engine
from dnstrail_signatures.engine.selection import SelectingByMessage

NXDOMAIN, SERVFAIL, REFUSED = 3, 2, 5


def selecting(*selectors: EventSelector) -> type[Signature]:
    """Return a signature that notes what it receives."""
    namespace = {
        "metadata": SignatureMetadata("id", "1", "Selecting", "SELECTING"),
        "selected_events": selectors,
        "on_event": lambda self, event: self.__dict__.setdefault("received", []).append(event),
    }
    return type("Selecting", (Signature,), namespace)


def event(payload: bytes, name: str = NET_PACKET_DNS) -> Event:
    """Return an event that carries a payload."""
    return Event(name, Captured(1, payload))


def query(kind: str = "A", questions: int = 1) -> bytes:
    """Return a query of some questions."""
    message = dns.message.make_query("q.example.", kind)
    message.question *= questions
    return message.to_wire()


def response(kind: str = "A", rcode: int = 0, answers: int = 0) -> bytes:
    """Return a response with a code and a number of answers in its header; there are no records."""
    message = dns.message.make_response(dns.message.make_query("q.example.", kind))
    message.flags |= dns.flags.RA
    message.set_rcode(rcode)
    wire = message.to_wire()
    return wire[:6] + answers.to_bytes(2, "big") + wire[8:]


MESSAGES = {
    "a query": query(),
    "a query for PTR": query("PTR"),
    "two questions": query(questions=2),
    "an answer": response(answers=1),
    "an answer for PTR": response("PTR", answers=1),
    "no data": response(),
    "NXDOMAIN": response(rcode=NXDOMAIN),
    "NXDOMAIN behind an alias": response(rcode=NXDOMAIN, answers=1),
    "SERVFAIL": response(rcode=SERVFAIL),
    "REFUSED": response(rcode=REFUSED),
    "another code": response(rcode=9),
    "cut short": query()[:-1],
    "a header cut short": bytes(11),
    "no message": b"",
}
QUERIES = {"a query", "a query for PTR", "two questions", "cut short"}
RESPONSES = {*MESSAGES} - QUERIES - {"a header cut short", "no message"}


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ({}, {*MESSAGES}),
        ({"message": ""}, {*MESSAGES}),
        ({"message": "query"}, QUERIES),
        ({"message": "response"}, RESPONSES),
        ({"types": (PTR,)}, {"a query for PTR", "an answer for PTR"}),
        ({"types": (A, PTR), "message": "query"}, {"a query", "a query for PTR"}),
        ({"outcomes": ("answered",)}, {"an answer", "an answer for PTR", "NXDOMAIN behind an alias"}),
        ({"outcomes": ("answered",), "types": (PTR,)}, {"an answer for PTR"}),
        ({"outcomes": ("nxdomain",)}, {"NXDOMAIN", "NXDOMAIN behind an alias"}),
        ({"outcomes": ("no_data", "refused")}, {"no data", "REFUSED"}),
        ({"outcomes": ("failed",)}, {"SERVFAIL", "another code"}),
        ({"outcomes": ("answered",), "message": "query"}, set()),
        ({"name": SCHED_PROCESS_EXIT, "message": "query"}, set()),
    ],
    ids=str,
)
def test_a_selector_selects_by_the_message(selector: dict[str, object], selected: set[str]) -> None:
    """A signature receives the messages that match all fields, from the engine and in tests of its own."""
    cls = selecting(EventSelector(**selector))
    running, alone = Engine([cls], DataSources(), lambda _finding: None), SignatureRun(cls)
    for _ in range(2):
        for payload in MESSAGES.values():
            running.on_event(event(payload))
            alone.event(event(payload))
    for one in (running.signatures[0], alone.signature):
        received = [each.captured.payload for each in vars(one).get("received", [])]
        assert Counter(received) == {MESSAGES[name]: 2 for name in selected}


def test_an_event_without_a_message_matches_no_message() -> None:
    """A selector with any name and a message leaves events without a message out."""
    running = Engine([selecting(EventSelector(message="query"))], DataSources(), lambda _finding: None)
    running.on_event(event(b"", SCHED_PROCESS_EXIT))
    assert "received" not in vars(running.signatures[0])


_messages = st.sampled_from(["*", "query", "response"])
_types = st.lists(st.sampled_from([1, 5, 12, 28]), max_size=2).map(tuple)
_outcomes = st.lists(st.sampled_from(["answered", "no_data", "nxdomain", "refused", "failed"]), max_size=2).map(tuple)
_selectors = st.builds(
    lambda message, types, outcomes: EventSelector(message=message, types=types, outcomes=outcomes),
    *(_messages, _types, _outcomes),
)


@given(st.lists(_selectors, min_size=1, max_size=3), st.lists(mutants(), max_size=8))
def test_the_engine_selects_as_the_selectors_do(selectors: list[EventSelector], payloads: list[bytes]) -> None:
    """The kinds of messages that the engine remembers separate what any selector separates."""
    running = Engine([selecting(one) for one in selectors], DataSources(), lambda _finding: None)
    events = [event(payload) for payload in payloads]
    for each in events:
        running.on_event(each)
    for one, signature in zip(selectors, running.signatures, strict=True):
        assert vars(signature).get("received", []) == [each for each in events if one.selects(each)]


def test_types_that_no_selector_names_are_one_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's choice of types does not fill the memory: the selectors are asked again for no new type."""
    [signature] = Engine([selecting(EventSelector(types=(A,)))], DataSources(), lambda _finding: None).signatures
    known = SelectingByMessage([signature], event(query()))
    assert known.of(event(query("A")))
    assert not known.of(event(query("TYPE1000")))
    monkeypatch.setattr(EventSelector, "selects", None)
    assert not any(known.of(event(query(f"TYPE{number}"))) for number in range(1001, 1100))


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("message", "reponse", "'reponse'"),
        ("outcomes", ("NXDOMAIN",), "'NXDOMAIN'"),
        ("types", 16, "types=16 is no tuple"),
        ("types", ("TXT",), "no tuple of numbers"),
    ],
)
def test_an_unknown_word_is_refused(field: str, value: object, named: str) -> None:
    """A selector that could match nothing is an error that names the word."""
    with pytest.raises(ValueError, match=named):
        EventSelector(**{field: value})
