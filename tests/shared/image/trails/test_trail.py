"""Trails: every way from a question to a key, and who asked (DESIGN 6)."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.dns_builders import T, response_to
from builders.traffic import KEYS, message
from builders.trail_helpers import CLIENT, SERVER, Asked, in_words, packed, to_client, to_server
from dnstrail.captured import Process
from dnstrail.image import Bounds, Circumstances, Image
from dnstrail.image.relation import MAX_ANSWERS
from dnstrail.image.trails.path import MAX_STEPS
from dnstrail.image.trails.trail import MAX_TRAILS, Step, Trails
from model.naive import ALWAYS, NaiveModel
from model.naive_lookup import Live, spread

REVERSE = ("1.1.1.1.in-addr.arpa PTR", "1.1.1.1.in-addr.arpa PTR host.net")
Told = tuple[float, tuple[str, ...], int]  # seconds after T, question and records, TTL

# What is told, the key, seconds after T, and the ways, the likeliest first (grace 60 s, history 300 s).
WAYS: dict[str, tuple[list[Told], str, float, list[str]]] = {
    "an address": ([(0, ("a", "a A 1.1.1.1"), 300)], "1.1.1.1", 1, ["a: A 1.1.1.1 (live)"]),
    "a key in another spelling": ([(0, ("a", "a A 1.1.1.1"), 300)], "::ffff:1.1.1.1", 1, ["a: A 1.1.1.1 (live)"]),
    "no siblings": ([(0, ("a", "a A 1.1.1.1", "a A 1.1.1.2"), 300)], "1.1.1.1", 1, ["a: A 1.1.1.1 (live)"]),
    "aliases": (
        [(0, ("a", "c A 1.1.1.1", "b CNAME c", "a CNAME b"), 300)],
        "1.1.1.1",
        1,
        ["a: CNAME b, CNAME c, A 1.1.1.1 (live)"],
    ),
    "an alias as the key": ([(0, ("a", "a CNAME b", "b A 1.1.1.1"), 300)], "b", 1, ["a: CNAME b (live)"]),
    "the key itself was asked": ([(0, ("a", "a CNAME b", "b A 1.1.1.1"), 300)], "a", 1, ["a: (live)"]),
    "a key that was asked, and led to": (
        [(0, ("a", "a CNAME b", "b A 1.1.1.1"), 300), (1, ("b", "b A 1.1.1.1"), 300)],
        "b",
        2,
        ["b: (live)", "a: CNAME b (live)"],
    ),
    "pieces of different answers": (
        [(0, ("b", "b A 1.1.1.1"), 300), (1, ("a", "a CNAME b"), 300)],
        "1.1.1.1",
        2,
        ["b: A 1.1.1.1 (live)", "a: CNAME b, A 1.1.1.1 (live)"],
    ),
    "two questions behind one alias": (
        [(0, ("a", "a CNAME c", "c A 1.1.1.1"), 300), (1, ("b", "b CNAME c", "c A 1.1.1.1"), 300)],
        "1.1.1.1",
        2,
        ["b: CNAME c, A 1.1.1.1 (live)", "a: CNAME c, A 1.1.1.1 (live)"],
    ),
    "the shortest way": (
        [(0, ("a", "a CNAME b", "b CNAME c", "c A 1.1.1.1", "b A 1.1.1.1"), 300)],
        "1.1.1.1",
        1,
        ["a: CNAME b, A 1.1.1.1 (live)"],
    ),
    "mail": (
        [(0, ("a MX", "a MX m.a"), 300), (1, ("m.a", "m.a A 1.1.1.1"), 300)],
        "1.1.1.1",
        2,
        ["m.a: A 1.1.1.1 (live)", "a: MX m.a, A 1.1.1.1 (live)"],
    ),
    "a service": ([(0, ("_x._tcp.a SRV", "_x._tcp.a SRV s.a"), 300)], "s.a", 1, ["_x._tcp.a: SRV s.a (live)"]),
    "a hint": ([(0, ("a HTTPS", "a HTTPS 1 . ipv4hint=1.1.1.1"), 300)], "1.1.1.1", 1, ["a: HTTPS 1.1.1.1 (live)"]),
    "a hint of another name": (
        [(0, ("a SVCB", "a SVCB 1 s.a ipv6hint=2001:db8::1"), 300)],
        "2001:db8::1",
        1,
        ["a: SVCB s.a, SVCB 2001:db8::1 (live)"],
    ),
    "a loop": (
        [(0, ("a", "a CNAME b", "b CNAME a", "b A 1.1.1.1"), 300)],
        "1.1.1.1",
        1,
        ["a: CNAME b, A 1.1.1.1 (live)"],
    ),
    "a key in a loop": ([(0, ("a", "a CNAME b", "b CNAME a"), 300)], "b", 1, ["a: CNAME b (live)"]),
    "a key that leads to itself": ([(0, ("a", "a CNAME a"), 300)], "a", 1, ["a: (live)"]),
    "a reverse question": ([(0, REVERSE, 300)], "1.1.1.1", 1, ["1.1.1.1: PTR host.net (live)"]),
    "a name from a reverse question": ([(0, REVERSE, 300)], "host.net", 1, ["1.1.1.1: PTR host.net (live)"]),
    "both directions": (
        [(0, ("a", "a A 1.1.1.1"), 300), (1, REVERSE, 300)],
        "1.1.1.1",
        2,
        ["a: A 1.1.1.1 (live)", "1.1.1.1: PTR host.net (live)"],
    ),
    "a name that is asked has no pointers": (
        [(0, ("host.net", "host.net A 1.1.1.2"), 300), (1, REVERSE, 300)],
        "host.net",
        2,
        ["host.net: (live)"],
    ),
    "a name whose own answers have expired has": (
        [(0, ("host.net", "host.net A 1.1.1.2"), 5), (1, REVERSE, 300)],
        "host.net",
        100,
        ["host.net: (expired)", "1.1.1.1: PTR host.net (live)"],
    ),
    "past the TTL": ([(0, ("a", "a A 1.1.1.1"), 5)], "1.1.1.1", 5, ["a: A 1.1.1.1 (grace)"]),
    "past the grace": ([(0, ("a", "a A 1.1.1.1"), 5)], "1.1.1.1", 65, ["a: A 1.1.1.1 (expired)"]),
    "as alive as its weakest step": (
        [(0, ("a", "a CNAME b ttl=300", "b A 1.1.1.1 ttl=5"), 0)],
        "1.1.1.1",
        6,
        ["a: CNAME b, A 1.1.1.1 (grace)"],
    ),
    "the key as alive as its best": (
        [(0, ("a", "a A 1.1.1.1 ttl=300", "a A 1.1.1.2 ttl=5"), 0)],
        "a",
        100,
        ["a: (live)"],
    ),
    "expired after live, though asked later": (
        [(0, ("a", "a A 1.1.1.1"), 300), (1, ("b", "b A 1.1.1.1"), 5)],
        "1.1.1.1",
        100,
        ["a: A 1.1.1.1 (live)", "b: A 1.1.1.1 (expired)"],
    ),
    "a live way rather than a shorter expired one": (
        [(0, ("a", "a CNAME b", "b A 1.1.1.1"), 300), (0, ("a", "a A 1.1.1.1"), 5)],
        "1.1.1.1",
        100,
        ["a: CNAME b, A 1.1.1.1 (live)"],
    ),
    "an expired alias": (
        [(0, ("a", "a CNAME b ttl=5", "b A 1.1.1.1 ttl=3600"), 0)],
        "1.1.1.1",
        100,
        ["a: CNAME b, A 1.1.1.1 (expired)"],
    ),
    "a forgotten alias": (
        [(0, ("a", "a CNAME b ttl=5", "b A 1.1.1.1 ttl=3600"), 0), (400, ("z", "z A 9.9.9.9"), 300)],
        "1.1.1.1",
        401,
        ["a: A 1.1.1.1 (expired)"],
    ),
    "a forgotten alias of the key": (
        [(0, ("a", "a CNAME b ttl=5", "b A 1.1.1.1 ttl=3600"), 0), (400, ("z", "z A 9.9.9.9"), 300)],
        "b",
        401,
        ["a: (expired)"],
    ),
    "a forgotten alias before an alias that was asked": (
        [
            (0, ("a", "a CNAME b ttl=5", "b CNAME c ttl=3600", "c A 1.1.1.1 ttl=3600"), 0),
            (400, ("b", "b CNAME c ttl=3600", "c A 1.1.1.1 ttl=3600"), 0),
        ],
        "1.1.1.1",
        401,
        ["b: CNAME c, A 1.1.1.1 (live)", "a: CNAME c, A 1.1.1.1 (expired)"],
    ),
}


def fed(messages: list[Told], **bounds: Any) -> Asked:
    asked = Asked(**bounds)
    for after, (question, *records), ttl in messages:
        asked.answer(after, question, *records, ttl=ttl)
    return asked


@pytest.mark.parametrize("case", WAYS)
def test_ways_to_a_key(case):
    """Each question that led to a key has its way, with its steps and its state; the first is the likeliest."""
    messages, key, after, ways = WAYS[case]
    trails = fed(messages).trails(key, after).trails
    assert [in_words(trail) for trail in trails] == ways
    assert [trail.rival for trail in trails] == [place > 0 for place in range(len(ways))]


def test_steps_have_age_and_remaining_life():
    """Each step tells, in seconds, how long ago it was seen last and what remains of its TTL, and how often it was."""
    asked = Asked(grace=60).answer(0, "a", "a CNAME b ttl=100", "b A 1.1.1.1 ttl=10")
    asked.answer(20, "a", "a CNAME b ttl=10")
    (trail,) = asked.trails("1.1.1.1", 30).trails
    assert trail.steps == [
        Step("a", "CNAME", "b", age=10.0, remaining=70.0, count=2, state="live"),
        Step("b", "A", "1.1.1.1", age=30.0, remaining=-20.0, count=1, state="grace"),
    ]
    assert (trail.first_seen, trail.last_seen) == (T, T + 20)


def test_ways_last_as_long_as_the_history():
    """An expired way is told until the history has passed, and then nothing is known."""
    for after, known in ((375 - 0.001, True), (375, False)):
        asked = Asked(grace=60, history=300).answer(0, "a", ttl=15)
        asked.answer(after, "z", "z A 9.9.9.9").image.sweep(T + after, 1000)
        assert (asked.find("1.1.1.1") is not None) is known


@pytest.mark.parametrize("key", ["zz", "9.9.9.9", "", ".", "a..b", "\x00", "x" * 300, "in-addr.arpa"])
def test_nothing_is_known_of_other_keys(key):
    """A key that nothing touches, and one that can be nothing, has no trails."""
    assert Asked().answer(0, "a").find(key) is None


def test_past_is_told_as_it_was():
    """As of a past time only what had come by then is told: ways, answers, counts and lives."""
    asked = Asked().answer(0, "a", ttl=10).answer(5, "a", ttl=10).answer(6, "b")
    for live in (True, False):
        image = Image(Bounds())
        for after, name in ((0, "a"), (5, "a"), (6, "b")):
            image.feed(T + after, response_to(name, f"{name} A 1.1.1.1", ttl=10), Circumstances(to_client(), live=live))
        found = image.trails("1.1.1.1", at=T + 4)
        assert found is not None
        assert [in_words(trail) for trail in found.trails] == ["a: A 1.1.1.1 (live)"]
        (trail,) = found.trails
        assert (trail.steps[0].age, trail.steps[0].remaining, trail.steps[0].count) == (4.0, 6.0, 1)
        assert [(one.last_seen, one.count) for one in trail.asked] == [(T, 1)]
        assert found.exact
    assert asked.image.trails("1.1.1.1", at=T - 1) is None


def test_past_that_is_folded_is_not_exact():
    """Where it is no longer known what a remembered way was then, the trails say so."""
    asked = Asked(grace=0, sightings=1)
    asked.answer(0, "a", ttl=1).answer(0.5, "a", ttl=1).answer(0.8, "a", ttl=1).answer(9, "z", "z A 9.9.9.9")
    found = asked.image.trails("1.1.1.1", at=T + 0.2)
    assert found is not None
    assert found.exact is False
    found = asked.image.trails("1.1.1.1", at=T + 5)
    assert found is not None
    assert found.exact is True


def test_no_more_than_so_many_are_told():
    """Of very many ways the likeliest are told, and that there are more."""
    asked = Asked()
    for number in range(MAX_TRAILS + 1):
        asked.answer(number, f"n{number}")
    found = asked.trails("1.1.1.1")
    assert (len(found.trails), found.truncated) == (MAX_TRAILS, True)
    assert found.trails[0].dns_root == f"n{MAX_TRAILS}"
    few = Asked().answer(0, "a").trails("1.1.1.1")
    assert few.truncated is False


def test_endless_aliases_are_cut():
    """Nobody's chain makes a reply without end: questions farther from the key than a resolver goes are left out."""
    names = [f"n{number}" for number in range(MAX_STEPS + 2)]
    asked = Asked()
    for owner, target in pairwise(names):
        asked.answer(0, owner, f"{owner} CNAME {target}")
    found = asked.trails(names[-1])
    assert max(len(trail.steps) for trail in found.trails) == MAX_STEPS
    assert (names[0] in {trail.dns_root for trail in found.trails}, found.truncated) == (False, True)


def test_names_past_the_bound_are_cut():
    """Where more names lead to a key than one answer may have, the reply says that there are more."""
    asked = Asked(nodes=3)
    for name in "abcdef":
        asked.answer(0, name)
    found = asked.trails("1.1.1.1")
    assert found.truncated
    assert 1 <= len(found.trails) <= 4


CLIENTS_OWN = {"socket": 7, "namespace": 1}
FIREFOX, UNBOUND = Process(70, "firefox", "/usr/bin/firefox", container_id="c1"), Process(53, "unbound")
SENT = to_server(**CLIENTS_OWN, egress=True)


def asker(asked: Asked) -> Any:
    (trail,) = asked.trails("1.1.1.1").trails
    (one,) = trail.asked
    return one


def test_asker_is_told():
    """A trail tells client, process and container of who asked, the server, whether the query was seen, and when."""
    asked = Asked()
    for after in (0, 10):
        asked.query(after, "a", SENT, FIREFOX)
        asked.answer(after + 0.5, "a", flow=to_client(**CLIENTS_OWN), process=FIREFOX, foreign=False)
    one = asker(asked)
    assert (one.client, one.server, one.foreign, one.matched) == (CLIENT, SERVER, False, True)
    assert (one.process_id, one.process_name, one.executable) == (70, "firefox", "/usr/bin/firefox")
    assert one.container_id == "c1"
    assert (one.first_seen, one.last_seen, one.count) == (T + 0.5, T + 10.5, 2)


# The query's flow and process (None: it was not seen), those of the response, and whose process is told.
WHO: dict[str, tuple[Any, Any, int]] = {
    "the query's, where it left its socket": ((SENT, FIREFOX), (to_client(), None), 70),
    "the query's before the response's": ((SENT, FIREFOX), (to_client(**CLIENTS_OWN), Process(71)), 70),
    "the response's at its client's socket": (None, (to_client(**CLIENTS_OWN), FIREFOX), 70),
    "never the server's": (None, (to_client(socket=9, namespace=1, egress=True), UNBOUND), 0),
    "never the server's, its query seen at the server": (
        (to_server(socket=9, namespace=1), UNBOUND),
        (to_client(socket=9, namespace=1, egress=True), UNBOUND),
        0,
    ),
    "nobody": (None, (to_client(), None), 0),
    "not even a flow": (None, (None, None), 0),
}


@pytest.mark.parametrize("case", WHO)
def test_process_is_the_askers(case):
    """The process is the one whose query left its socket, else the one whom the response reached, never the server."""
    sent, (flow, process), pid = WHO[case]
    asked = Asked()
    if sent:
        asked.query(0, "a", *sent)
    asked.answer(0.1, "a", flow=flow, process=process)
    assert asker(asked).process_id == pid
    assert asker(asked).matched is bool(sent)


def test_process_is_the_askers_where_the_server_is_here_too():
    """Where client and server are on this host, the server's own sight of a query does not hide who sent it."""
    at_server = {"socket": 9, "namespace": 1}
    asked = Asked().query(0, "a", SENT, FIREFOX).query(0.0001, "a", to_server(**at_server), UNBOUND)
    asked.answer(0.1, "a", flow=to_client(**at_server, egress=True), process=UNBOUND)
    assert (asker(asked).process_id, asker(asked).matched) == (70, True)


NATTED = to_client("10.9.9.9", "10.0.0.53", **CLIENTS_OWN, meant=packed("127.0.0.11"), meant_port=53)
SERVERS = {
    "the source of the answer": (to_client(), SERVER),
    "the one that was meant, before NAT": (NATTED, "127.0.0.11"),
    "as the packet says, at the server's own socket": (
        to_client(socket=9, namespace=1, egress=True, meant=packed("10.0.0.7"), meant_port=1),
        SERVER,
    ),
    "unknown": (to_client(server="0.0.0.0"), ""),
    "unknown of IPv6": (to_client("2001:db8::2", "::"), ""),
    "without a flow": (None, ""),
}


@pytest.mark.parametrize("case", SERVERS)
def test_server_is_the_one_that_was_meant(case):
    """The server is the one that the client meant to ask, where that is known; "" where nothing is."""
    flow, server = SERVERS[case]
    assert asker(Asked().answer(0, "a", flow=flow)).server == server


@pytest.mark.parametrize("client", ["", "0.0.0.0", "::"])
def test_client_that_is_not_known_is_empty(client):
    """A client that the source does not know is told as "", and never as the address of nobody."""
    assert asker(Asked().answer(0, "a", flow=to_client(client))).client == ""


@pytest.mark.parametrize("foreign", [True, False, None])
def test_foreign_is_told(foreign):
    """Whether a server is none of those that the asker is configured to ask is told as it is known."""
    assert asker(Asked().answer(0, "a", foreign=foreign)).foreign is foreign


def test_askers_are_told_apart():
    """Each client of each server is told by itself, the last one first; one unseen query makes its lot unmatched."""
    asked = Asked().query(0, "a").answer(0.1, "a").answer(5, "a", flow=to_client("10.0.0.3"))
    asked.answer(9, "a", flow=to_client(server="10.0.0.54"), foreign=True).answer(20, "a")
    (trail,) = asked.trails("1.1.1.1").trails
    assert [(one.client, one.server, one.matched, one.count) for one in trail.asked] == [
        (CLIENT, SERVER, False, 2),
        (CLIENT, "10.0.0.54", False, 1),
        ("10.0.0.3", SERVER, False, 1),
    ]


def test_only_the_last_answers_are_told():
    """However often a name is asked, so many answers are remembered, and they are the youngest."""
    asked = Asked()
    for number in range(3 * MAX_ANSWERS):
        asked.answer(number, "a", flow=to_client(f"10.1.0.{number}"))
    (trail,) = asked.trails("1.1.1.1").trails
    assert [one.client for one in trail.asked] == [
        f"10.1.0.{number}" for number in range(3 * MAX_ANSWERS - 1, 2 * MAX_ANSWERS - 1, -1)
    ]


def random_pair(random: Random, count: int) -> tuple[Image, NaiveModel, float]:
    """The image and the model after some random messages, and a time soon after."""
    image, model, stamp = Image(Bounds(size=10**6)), NaiveModel(), T
    for _ in range(count):
        stamp += random.choice((0, 0, 1, 5, 40, 100))
        payload = message(random)
        image.feed(stamp, payload)
        model.feed(stamp, payload)
    return image, model, stamp + random.choice((0, 1, 30, 61, 200))


def questions_to(live: Live, key: str) -> set[str]:
    """The names that lead to a key, or are it, and by whose own answers something is live at a name on the way."""
    up = {key} | spread(key, lambda node: (life.owner for life in live.into(node)))
    return {root for node in up for life in live.touching.get(node, []) for root in life.roots if root in up}


def assert_chain(found: Trails, live: Live) -> None:
    """Every live trail is made of live relations that lead from the question to the key."""
    known = {(life.owner, life.kind, life.target) for lives in live.touching.values() for life in lives}
    for trail in found.trails:
        steps = [(step.owner, step.kind, step.target) for step in trail.steps]
        if trail.state == "expired" or any(kind == "PTR" for _, kind, _ in steps):
            continue
        assert set(steps) <= known
        nodes = [trail.dns_root, *(target for _, _, target in steps)]
        assert [owner for owner, _, _ in steps] == nodes[:-1]
        assert nodes[-1] == found.key
        assert len(set(nodes)) == len(nodes)


@given(st.integers(0, 10**9), st.integers(1, 25))
def test_live_trails_are_the_questions_behind_a_lookup(seed, count):
    """Live chains are live and whole; their questions are those names of a lookup that were asked and lead to the key.

    A lookup's root has a trail always, if only an expired one, and what a lookup finds has trails.
    """
    image, model, now = random_pair(Random(seed), count)
    live, _ = model._tables_at(now, ALWAYS)
    for key in KEYS:
        trails, get = image.trails(key, now=now), image.get(key, now=now)
        if get is None:
            assert trails is None or all(trail.state == "expired" for trail in trails.trails)
            continue
        assert trails is not None
        assert_chain(trails, live)
        forward = [trail for trail in trails.trails if all(step.kind != "PTR" for step in trail.steps)]
        roots = {trail.dns_root for trail in forward if trail.state != "expired"}
        assert roots == questions_to(live, trails.key)
        assert roots <= set(get.dns_queries)
        assert get.dns_root in {"", *(trail.dns_root for trail in forward)}
        states = [trail.state == "expired" for trail in forward]
        assert states == sorted(states)
