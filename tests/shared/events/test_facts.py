"""Facts as signatures and people read them: an identity of their own, and a line for each outcome."""

from __future__ import annotations

from typing import Any

import pytest

from dnstrail.captured import Captured, Flow
from dnstrail.events import DNS_TRANSACTION, OUTCOMES, Event
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


def test_a_fact_that_is_published_again_has_the_same_identity():
    """The identity of a fact is its own, and not its place on the bus: a finding on it is reported once."""
    assert event().id == "s/net_packet_dns/7/3"
    assert Event(DNS_TRANSACTION, event().captured, ("another", 0), place=(DNS_TRANSACTION, 0, 0)).id == event().id
