"""The likeliest path: each criterion by itself, and each before the criteria below it."""

from __future__ import annotations

import re

import pytest

from builders.dns_builders import t
from builders.trail_helpers import CLIENT, Asked, packed, to_client
from dnstrail.captured import Flow, Process
from dnstrail.connection import Connection
from dnstrail.image import ServerNameSighting
from dnstrail.image.binding.scope import MAX_LED, MAX_PORTS, SOON

ADDRESS = "1.1.1.1"
OTHER = "10.0.0.3"
OWN = {"socket": 7, "namespace": 1}  # the response at its client's socket: its process is known
APP = Process(70, "app", container_id="c1")
BESIDE = Process(71, "beside", container_id="c1")
ELSEWHERE = Process(72, "elsewhere")
WHO = {"process": 70, "container": "c1", "client": CLIENT, "port": 443}


def by(asked: Asked, after: float, name: str, process: Process | None, client: str = CLIENT) -> None:
    asked.answer(after, name, flow=to_client(client, **OWN), process=process)


def connect(asked: Asked, after: float, client: str = CLIENT, port: int = 443) -> None:
    asked.image.note_connection(t(after), Connection(client=client, port=port), ADDRESS)


def named(asked: Asked, after: float, name: str, client: str = CLIENT, port: int = 443) -> None:
    asked.image.note_server_name(ADDRESS, ServerNameSighting(t(after), name, "sni", client, port))


def led_by(asked: Asked, port: int, at: int | None = None) -> int:
    """Return the number of connections to a port for which the answers to the only question count."""
    found = asked.image.trails(ADDRESS, Connection(client=CLIENT, port=port), at=at, now=t(50))
    counted = re.search(r"led to (\d+) connections", " ".join(found.trails[0].reasons))
    return int(counted[1]) if counted else 0


def test_narrower_scope_is_likelier():
    """Scopes rank from the same process over container and host to any asker, whichever question was last."""
    asked = Asked()
    by(asked, 0, "process", APP)
    by(asked, 1, "container", BESIDE)
    by(asked, 2, "host", ELSEWHERE)
    by(asked, 3, "any", ELSEWHERE, OTHER)
    found = asked.trails(ADDRESS, 10, **WHO)
    assert [trail.dns_root for trail in found.trails] == ["process", "container", "host", "any"]
    assert [trail.scope for trail in found.trails] == ["process", "container", "host", "any"]
    assert found.scope == "process"


@pytest.mark.parametrize(
    ("connection", "scope", "first"),
    [
        ({}, "any", "any"),
        ({"client": CLIENT}, "host", "host"),
        ({"client": "10.9.9.9"}, "any", "any"),
        ({"container": "c1"}, "container", "container"),
        ({"container": ""}, "any", "any"),
        ({"process": 71}, "process", "container"),
        ({"process": 0}, "any", "any"),
        ({"process": 99, "client": OTHER}, "host", "any"),
    ],
)
def test_scope_is_the_narrowest_that_matched(connection, scope, first):
    """The reply names the narrowest scope that matched; unknown fields match nobody."""
    asked = Asked().answer(0, "unknown", flow=to_client("", **OWN), process=Process())
    by(asked, 0, "process", APP)
    by(asked, 1, "container", BESIDE)
    by(asked, 2, "host", ELSEWHERE)
    by(asked, 3, "any", ELSEWHERE, OTHER)
    found = asked.trails(ADDRESS, 10, **connection)
    assert (found.scope, found.trails[0].dns_root) == (scope, first)


def test_narrower_scope_comes_before_life():
    """An expired question of the same host is likelier than a live question of another host."""
    asked = Asked(grace=0).answer(0, "mine", ttl=5).answer(1, "other", flow=to_client(OTHER))
    assert asked.roots(after=50, client=CLIENT) == "mine other"


def test_doubt_comes_after_every_scope():
    """A doubted answer to the same process follows one without doubt to an unknown asker."""
    asked = Asked()
    asked.image.admission.gap(t(0))
    asked.answer(0, "other", flow=to_client(OTHER))
    asked.answer(1, "doubted", flow=to_client(**OWN), process=APP, live=True)
    assert asked.roots(after=50, **WHO) == "other doubted"


def test_a_live_question_is_likelier():
    """Within a scope a live question precedes an expired one, even if the latter was last and sent as server name."""
    asked = Asked(grace=0).answer(0, "live").answer(1, "expired", ttl=5)
    named(asked, 2, "expired")
    assert asked.roots(after=50, client=CLIENT, port=443) == "live expired"


def test_own_answer_is_likelier():
    """A question whose own answer contains the address precedes a question that needs other answers."""
    asked = Asked().answer(0, "own", "own CNAME edge", "edge A 1.1.1.1").answer(1, "alias", "alias CNAME edge")
    assert asked.roots(after=1.5, client=CLIENT) == "own alias"


def test_life_comes_before_an_own_answer():
    """A live path over other answers is likelier than an expired path over the question's own answer."""
    asked = Asked(grace=0).answer(0, "own", ttl=5).answer(1, "edge").answer(2, "alias", "alias CNAME edge")
    assert asked.roots(after=50) == "edge alias own"


def test_a_fresh_answer_is_likelier():
    """A question answered within the last second precedes a server name that was sent earlier."""
    asked = Asked().answer(0, "named").answer(10, "fresh")
    named(asked, 1, "named")
    assert asked.roots(after=11, client=CLIENT, port=443) == "fresh named"
    assert asked.roots(after=11.001, client=CLIENT, port=443) == "named fresh"


def test_freshness_is_the_askers():
    """An answer of the last second counts only for the client that received it."""
    asked = Asked().answer(9, "mine").answer(9.5, "mine", flow=to_client(OTHER)).answer(10.5, "both")
    asked.answer(10.6, "mine", flow=to_client(OTHER))
    assert asked.roots(after=11, client=CLIENT) == "both mine"
    assert asked.roots(after=11, client=OTHER) == "mine both"


def test_last_of_two_fresh_answers_is_likelier():
    """The later answered of two fresh questions comes first, whatever arrived last or was sent as server name."""
    asked = Asked().answer(10.4, "last").answer(10.2, "first")
    assert asked.roots(after=11, client=CLIENT) == "last first"
    named(asked, 5, "first")
    assert asked.roots(after=11, client=CLIENT, port=443) == "last first"


def test_a_sent_server_name_is_likelier():
    """The server name that this client sent to this port last precedes the last question."""
    asked = Asked().answer(0, "a").answer(1, "b").answer(2, "c")
    named(asked, 3, "b")
    named(asked, 4, "a")
    named(asked, 5, "b", port=80)
    named(asked, 6, "c", client=OTHER)
    assert asked.roots(after=20, client=CLIENT, port=443) == "a b c"
    assert asked.roots(after=20, client=CLIENT, port=80) == "b c a"
    assert asked.roots(after=20, client=CLIENT) == "b a c"
    assert asked.roots(after=20) == "c b a"


def test_a_later_server_name_does_not_count():
    """A server name that was sent at the time of the connection or later does not count."""
    asked = Asked().answer(0, "a").answer(1, "b")
    named(asked, 5, "a")
    assert asked.roots(after=5, client=CLIENT, port=443) == "b a"


def test_question_that_led_to_connections_is_likelier():
    """The question with the most connections to this port for each answer comes first, not with the most in all."""
    asked = Asked()
    for after in (0, 10, 20):
        asked.answer(after, "often")
    connect(asked, 20.1)
    connect(asked, 20.2)
    asked.answer(30, "always")
    connect(asked, 30.1)
    asked.answer(40, "never")
    assert asked.roots(after=50, client=CLIENT, port=443) == "always often never"
    assert asked.roots(after=50, client=CLIENT, port=80) == "never always often"
    assert asked.roots(after=50, client=OTHER, port=443) == "always often never"


@pytest.mark.parametrize(
    ("ns", "client", "counted"),
    [(-1, CLIENT, 0), (0, CLIENT, 1), (SOON, CLIENT, 1), (SOON + 1, CLIENT, 0), (0, OTHER, 0)],
)
def test_a_connection_counts_for_an_answer_to_its_own_host_within_a_second_before_it(ns, client, counted):
    """No connection before the answer counts, none more than a second after it, and none of another client."""
    asked = Asked().answer(0, "a")
    asked.image.note_connection(t(0) + ns, Connection(client=client, port=443), ADDRESS)
    assert led_by(asked, 443) == counted


def test_a_late_answer_hides_no_earlier_one_from_a_connection():
    """A connection counts for the answer before it, also if an older answer of the same question arrived last."""
    asked = Asked().answer(10, "a").answer(5, "a")
    connect(asked, 10.5)
    assert led_by(asked, 443) == 1


def test_connections_that_are_counted_are_bounded():
    """Of the connections after one answer MAX_PORTS ports count, and of one port the last MAX_LED times are held."""
    asked = Asked().answer(0, "a")
    for number in range(MAX_LED + 2):
        connect(asked, 0.1 + number / 1000)
    for port in range(MAX_PORTS):
        connect(asked, 0.5, port=port + 1)
    assert [led_by(asked, port) for port in (443, MAX_PORTS - 1, MAX_PORTS)] == [MAX_LED + 2, 1, 0]
    assert [led_by(asked, 443, at) for at in (t(0.1) - 1, t(0.102))] == [2, 3]


def test_a_server_name_comes_before_connections():
    """A sent server name is likelier than a question that led to connections."""
    asked = Asked().answer(0, "named").answer(10, "used")
    connect(asked, 10.1)
    named(asked, 1, "named")
    assert asked.roots(after=50, client=CLIENT, port=443) == "named used"


def test_last_question_is_likelier():
    """If no other criterion decides, the question answered last, by arrival, comes first."""
    asked = Asked().answer(5, "a").answer(0, "b")
    assert asked.roots(after=50) == "b a"
    assert asked.answer(6, "a").roots(after=50) == "a b"


def test_pointers_come_last():
    """Names from reverse records follow every forward path, even if the same process asked for them."""
    asked = Asked(grace=0).answer(0, "a", ttl=5, flow=to_client(OTHER))
    pointer = "1.1.1.1.in-addr.arpa"
    asked.answer(1, f"{pointer} PTR", f"{pointer} PTR host", flow=to_client(**OWN), process=APP)
    assert asked.roots(after=50, **WHO) == "a 1.1.1.1"


def test_reasons_list_the_evidence():
    """Each trail lists the evidence for its rank as text."""
    asked = Asked()
    by(asked, 0, "a", APP)
    asked.image.note_connection(t(0.1), Connection(process=70, port=443), ADDRESS)
    named(asked, 4, "a")
    by(asked, 10, "a", APP)
    by(asked, 5, "b", ELSEWHERE, OTHER)
    first, second = asked.trails(ADDRESS, 10.5, **WHO).trails
    assert first.reasons == [
        "asked by the same process",
        "answered within the last second",
        "the client sent this server name 6 s before",
        "2 answers led to 1 connections to port 443",
        "last answered 0.500 s before",
    ]
    assert second.reasons == ["last answered 5.500 s before"]


def test_addresses_are_compared_in_one_form():
    """A client with an IPv4-mapped address is the client with the IPv4 address."""
    mapped = Flow(packed("10.0.0.53"), 53, packed(f"::ffff:{CLIENT}"), 40000)
    found = Asked().answer(0, "a", flow=mapped).trails(ADDRESS, client=CLIENT)
    assert found.scope == "host"
    assert re.fullmatch(r"last answered 0\.000 s before", found.trails[0].reasons[-1])


def test_the_past_counts_its_own_connections():
    """With `at` only the connections that had been opened by then count for a question."""
    asked = Asked().answer(0, "a")
    connect(asked, 0.5)
    connect(asked, 0.8)
    assert [led_by(asked, 443, at) for at in (t(0.8) - 1, t(0.8))] == [1, 2]
