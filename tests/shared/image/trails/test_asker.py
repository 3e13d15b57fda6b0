"""The askers of a trail: who asked, and which server answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from builders.dns_builders import T
from builders.trail_helpers import CLIENT, SERVER, Asked, packed, to_client, to_server
from dnstrail.captured import Flow, Process
from dnstrail.image.record import MAX_SIGHTINGS

CLIENTS_OWN = {"socket": 7, "namespace": 1}
FIREFOX, UNBOUND = Process(70, "firefox", "/usr/bin/firefox", container_id="c1"), Process(53, "unbound")
SENT, CAME = to_server(**CLIENTS_OWN, egress=True), to_client(**CLIENTS_OWN)


def asker(asked: Asked) -> Any:
    (trail,) = asked.trails("1.1.1.1").trails
    (one,) = trail.asked
    return one


def test_an_asker_has_all_its_fields():
    """A trail contains the client, process and container of the asker, the server, and when and how often it asked."""
    asked = Asked()
    for after in (0, 10):
        asked.query(after, "a", SENT, FIREFOX)
        asked.answer(after + 0.5, "a", flow=to_client(**CLIENTS_OWN), process=FIREFOX, foreign=False)
    one = asker(asked)
    assert (one.client, one.server, one.foreign, one.matched) == (CLIENT, SERVER, False, True)
    assert (one.process_id, one.process_name, one.executable) == (70, "firefox", "/usr/bin/firefox")
    assert one.container_id == "c1"
    assert (one.first_seen, one.last_seen, one.count) == (T + 0.5, T + 10.5, 2)


@dataclass(frozen=True)
class Seen:
    """The flows and processes of a response and of its query (None: not captured), and the expected process id."""

    says: str
    response: Flow | None
    expected: int
    responder: Process | None = None
    query: Flow | None = None
    sender: Process | None = None


AT_SERVER = {"socket": 9, "namespace": 1}
SEEN = (
    Seen("the sender's, at its own socket", to_client(), expected=70, query=SENT, sender=FIREFOX),
    Seen("the sender's before the receiver's", CAME, expected=70, responder=Process(71), query=SENT, sender=FIREFOX),
    Seen("the receiver's, at its client's socket", CAME, expected=70, responder=FIREFOX),
    Seen("not the server's", to_client(**AT_SERVER, egress=True), expected=0, responder=UNBOUND),
    Seen(
        "not the server's, with its query at the server",
        to_client(**AT_SERVER, egress=True),
        expected=0,
        responder=UNBOUND,
        query=to_server(**AT_SERVER),
        sender=UNBOUND,
    ),
    Seen("unknown", to_client(), expected=0),
    Seen("unknown without a flow", None, expected=0),
)


@pytest.mark.parametrize("seen", SEEN, ids=lambda seen: seen.says)
def test_process_is_the_askers(seen):
    """The process is the sender of the query, else the receiver of the response, and never the server."""
    asked = Asked()
    if seen.query:
        asked.query(0, "a", seen.query, seen.sender)
    asked.answer(0.1, "a", flow=seen.response, process=seen.responder)
    assert asker(asked).process_id == seen.expected
    assert asker(asked).matched is bool(seen.query)


def test_process_is_the_askers_where_the_server_is_here_too():
    """With client and server on one host, the query at the server's socket does not hide its sender."""
    asked = Asked().query(0, "a", SENT, FIREFOX).query(0.0001, "a", to_server(**AT_SERVER), UNBOUND)
    asked.answer(0.1, "a", flow=to_client(**AT_SERVER, egress=True), process=UNBOUND)
    assert (asker(asked).process_id, asker(asked).matched) == (70, True)


NATTED = to_client("10.9.9.9", "10.0.0.53", **CLIENTS_OWN, meant=packed("127.0.0.11"), meant_port=53)
SERVERS = {
    "the source of the answer": (to_client(), SERVER),
    "the meant server, before NAT": (NATTED, "127.0.0.11"),
    "the source of the packet, at the server's own socket": (
        to_client(socket=9, namespace=1, egress=True, meant=packed("10.0.0.7"), meant_port=1),
        SERVER,
    ),
    "unknown": (to_client(server="0.0.0.0"), ""),
    "unknown IPv6": (to_client("2001:db8::2", "::"), ""),
    "without a flow": (None, ""),
}


@pytest.mark.parametrize("case", SERVERS)
def test_server_is_the_one_that_was_meant(case):
    """The server is the one that the client meant to ask, if that is known, and "" if nothing is known."""
    flow, server = SERVERS[case]
    assert asker(Asked().answer(0, "a", flow=flow)).server == server


@pytest.mark.parametrize("client", ["", "0.0.0.0", "::"])
def test_client_that_is_not_known_is_empty(client):
    """An unknown client is "", even where the source writes an unspecified address."""
    assert asker(Asked().answer(0, "a", flow=to_client(client))).client == ""


@pytest.mark.parametrize("foreign", [True, False, None])
def test_foreign_is_reported(foreign):
    """A trail repeats the statement of the source that a server is foreign, configured or unknown."""
    assert asker(Asked().answer(0, "a", foreign=foreign)).foreign is foreign


def test_askers_are_listed_apart():
    """Each client of each server is listed apart, the last asker first; one uncaptured query makes it unmatched."""
    asked = Asked().query(0, "a").answer(0.1, "a").answer(5, "a", flow=to_client("10.0.0.3"))
    asked.answer(9, "a", flow=to_client(server="10.0.0.54"), foreign=True).answer(20, "a")
    (trail,) = asked.trails("1.1.1.1").trails
    assert [(one.client, one.server, one.matched, one.count) for one in trail.asked] == [
        (CLIENT, SERVER, False, 2),
        (CLIENT, "10.0.0.54", False, 1),
        ("10.0.0.3", SERVER, False, 1),
    ]


def test_only_the_newest_answers_are_listed():
    """The newest MAX_SIGHTINGS answers of a question are listed, however often it is asked."""
    asked = Asked()
    for number in range(3 * MAX_SIGHTINGS):
        asked.answer(number, "a", flow=to_client(f"10.1.0.{number}"))
    (trail,) = asked.trails("1.1.1.1").trails
    assert [one.client for one in trail.asked] == [
        f"10.1.0.{number}" for number in range(3 * MAX_SIGHTINGS - 1, 2 * MAX_SIGHTINGS - 1, -1)
    ]
