"""The views of `dnstrail top`: where a transaction counts."""

from __future__ import annotations

import pytest

from dnstrail.captured import Captured, Flow, Process
from dnstrail.events import DNS_TRANSACTION, OUTCOMES, Event
from dnstrail_cli.top.views import FAILURES, VIEWS, Totals

CURL = Process(7, "curl", "/usr/bin/curl", container_id="c0ffee42c0ffee42", container_name="web-1")
FLOW = Flow(bytes([192, 0, 2, 100]), 40000, bytes([192, 0, 2, 53]), 53)


def transaction(process: Process | None = CURL, flow: Flow | None = FLOW, **args: object) -> Event:
    """Return a transaction."""
    known = {"name": "shop.example", "outcome": "answered", "hop": "client", "waited": 2_000_000, **args}
    return Event(DNS_TRANSACTION, Captured(1, b"", flow, process, known))


def keys(event: Event) -> dict[str, tuple]:
    """Return the key of a transaction in each view where it counts."""
    totals = Totals()
    totals.add(event)
    return {title: one.key for title, view in totals.views.items() for one in view.by("lookups")}


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (transaction(), {"names": ("shop.example",), "processes": ("curl", "web-1", ""), "resolvers": ("192.0.2.53",)}),
        (
            transaction(None, hop="served", outcome="nxdomain"),
            {
                "names": ("shop.example",),
                "processes": ("192.0.2.100", "", ""),
                "resolvers": ("192.0.2.53",),
                "failures": ("nxdomain", "shop.example"),
            },
        ),
        (transaction(hop="forwarder", outcome="failed", **{"for": "s/0/0"}), {"resolvers": ("192.0.2.53",)}),
        (
            transaction(hop="forwarder"),
            {"names": ("shop.example",), "processes": ("curl", "web-1", ""), "resolvers": ("192.0.2.53",)},
        ),
        (
            transaction(Process(7, "dig", container_id="c0ffee42c0ffee42"), resolver="192.0.2.9", resolver_port=5353),
            {
                "names": ("shop.example",),
                "processes": ("dig", "c0ffee42c0ff", ""),
                "resolvers": ("192.0.2.9 port 5353",),
            },
        ),
        (
            transaction(Process(7, "dig", unit="alice/a.scope")),
            {"names": ("shop.example",), "processes": ("dig", "", "alice/a.scope"), "resolvers": ("192.0.2.53",)},
        ),
        (transaction(None, None), {"names": ("shop.example",), "processes": ("", "", "")}),
    ],
    ids=[
        "of a process",
        "of a client",
        "asked for others",
        "of a forwarder itself",
        "through NAT",
        "of a unit",
        "without a flow",
    ],
)
def test_the_place_of_a_transaction(event, expected):
    """A question counts for its name, asker and resolver; one that was asked for others counts for its resolver."""
    assert keys(event) == expected


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_failures_are_those_without_an_answer(outcome):
    """An answer, an answer without data, a truncated one and one that is not known are no failures."""
    assert ("failures" in keys(transaction(outcome=outcome))) is (outcome in FAILURES)
    assert set(OUTCOMES) - FAILURES == {"answered", "no_data", "truncated", "unknown"}


def test_rows_of_a_view():
    """A row states lookups, failures, rate and times in ms; 30 s without a response are no time of a response."""
    totals = Totals()
    for args in ({}, {"waited": 4_000_000}, {"outcome": "unanswered", "waited": 30_000_000_000}):
        totals.add(transaction(**args))
    totals.tick(2.0)
    assert totals.lookups == 3
    figures = {"lookups": 3, "failed": 1, "rate": 1.5, "mean_ms": 3.0, "slowest_ms": 4.0}
    assert totals.rows(VIEWS[0]) == {"view": "names", "rows": [{"name": "shop.example", **figures}], "left": 0}
