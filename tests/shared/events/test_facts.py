"""Facts as signatures and people read them: an identity of their own, and a line for each outcome."""

from __future__ import annotations

from typing import Any

import pytest

from dnstrail.captured import Captured, Flow
from dnstrail.events import DNS_TRANSACTION, NET_CONNECTION, OUTCOMES, REASONS, STAGES, Event
from dnstrail.image.binding import bindings
from dnstrail.image.facts import transaction
from dnstrail_cli.events.words import event_words

RELATIONS = [["shop.example", "CNAME", "edge.example", 60], ["edge.example", "A", "192.0.2.1", 60]]
ASKED = {"id": "s/net_packet_dns/7/3", "name": "shop.example", "type": "A", "tries": 1}
FLOW = Flow(bytes([192, 0, 2, 100]), 40000, bytes([192, 0, 2, 53]), 53)


def event(**args: Any) -> Event:
    """Return a transaction with these arguments."""
    return Event(
        DNS_TRANSACTION, Captured(1, b"", FLOW, None, ASKED | args), ("cache", 4), place=(DNS_TRANSACTION, 1, 2)
    )


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (
            {"outcome": "answered", "waited": 12_345_678, "relations": RELATIONS},
            "A shop.example (12.3 ms) -> edge.example, 192.0.2.1",
        ),
        ({"outcome": "nxdomain", "waited": 2_000_000}, "A shop.example -> no such name (NXDOMAIN) (2 ms)"),
        (
            {"outcome": "unanswered", "waited": 35_000_000_000, "tries": 3},
            "A shop.example -> unanswered (3 tries, 35 s)",
        ),
        ({"outcome": "no_data"}, "A shop.example -> no data"),
        ({"outcome": "answered", "relations": []}, "A shop.example -> "),
    ],
    ids=["answered", "no such name", "unanswered", "no question was seen", "no relation"],
)
def test_a_transaction_has_a_line_for_people(args, line):
    """The line has question and answer, how long the asker waited, and how often it tried."""
    assert event_words(event(**args)).fitted(None) == line


def test_the_outcomes_are_those_of_the_image():
    """The outcomes that the specification lists are those of the transactions of the image, and each has a line."""
    known = {value for name, value in vars(transaction).items() if name in {one.upper() for one in OUTCOMES}}
    assert known == {*OUTCOMES}
    assert all(event_words(event(outcome=outcome)).text for outcome in OUTCOMES)


@pytest.mark.parametrize(
    ("args", "line"),
    [
        ({"stage": "opened", "name": "shop.example"}, "-> 192.0.2.53:53 shop.example"),
        ({"stage": "opened", "transport": "udp"}, "-> 192.0.2.53:53/udp"),
        ({"stage": "result", "connected": True, "lasted": 2_000_000}, "-> 192.0.2.53:53 connected after 2 ms"),
        (
            {"stage": "result", "connected": False, "error": "ETIMEDOUT", "lasted": 130_000_000_000},
            "-> 192.0.2.53:53 failed (ETIMEDOUT) after 130 s",
        ),
        (
            {"stage": "named", "name": "shop.example", "bound": "sni"},
            "-> 192.0.2.53:53 called shop.example (sni)",
        ),
        (
            {"stage": "end", "why": "closed", "lasted": 3_000_000_000, "bytes_sent": 10, "bytes_received": 2_000},
            "-> 192.0.2.53:53 closed after 3 s (10 bytes sent, 2.0 kB received)",
        ),
        ({"stage": "end", "why": "probe gone"}, "-> 192.0.2.53:53 probe gone"),
    ],
    ids=["opened", "no name", "connected", "failed", "named", "closed", "no bytes"],
)
def test_a_stage_of_a_connection_has_a_line_for_people(args, line):
    """The line has the receiver, what happened, and how long after the connection was opened."""
    captured = Captured(1, b"", FLOW, None, {"id": "s/net_tcp_connect/7/3/opened", **args})
    assert event_words(Event(NET_CONNECTION, captured, ("cache", 4))).fitted(None) == line


def test_the_stages_and_reasons_are_those_of_the_image():
    """The specification lists the stages of the image, and the reasons for which it ends a connection."""
    assert (bindings.OPENED, bindings.RESULT, bindings.NAMED, bindings.ENDED) == STAGES
    known = bindings.CLOSED, bindings.EXITED, bindings.REUSED, bindings.EVICTED, bindings.GONE
    assert known == REASONS


def test_a_fact_that_is_published_again_has_the_same_identity():
    """The identity of a fact is its own, and not its place on the bus: a finding on it is reported once."""
    assert event().id == "s/net_packet_dns/7/3"
    assert Event(DNS_TRANSACTION, event().captured, ("another", 0), place=(DNS_TRANSACTION, 0, 0)).id == event().id
