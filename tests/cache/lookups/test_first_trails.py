"""The operation `trail_many`: the first trail of each of many connections, as of their own times.

Tests of dnstrail.image.first_trail, dnstrail.image.trails.first, dnstrail.image.trails.states.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import to_builtins
from msgspec.structs import replace

from builders.binding_helpers import APP, OTHER, SHARED, SHARED6, Host
from builders.dns_builders import CNAME, A, by_hand, record, t
from builders.talk import back, packed, query, there
from dnstrail.captured import Process
from dnstrail.connection import Connection
from dnstrail.dns.rdata import PTR
from dnstrail.image import Circumstances
from dnstrail.image.first_trail import FirstTrail
from dnstrail.image.trails.first import RIVALS
from dnstrail.image.trails.rank import BOUND
from dnstrail.image.trails.server_names import ServerNameSighting
from dnstrail.protocol.lookups import ConnectionTo, RefusedRequestError, TrailManyRequest, TrailRequest
from dnstrail_cache.lookups.answers import answer
from dnstrail_cache.state.cache_state import CacheState
from live.workers import SlowClock


@pytest.fixture
def host():
    return Host(grace=1, history=4)


@pytest.fixture
def state(host):
    return CacheState(host.image, SlowClock())


def first(state, address=SHARED, **fields):
    """Return the first trail of one connection."""
    [found] = answer(TrailManyRequest(connections=(ConnectionTo(address=address, **fields),)), state)
    return found


def test_the_first_trail_is_that_of_a_trail(host, state):
    """Name, state and scope are those of `trail` for the same connection; the others are its rivals."""
    for number in range(RIVALS + 3):
        host.asks(number / 10, f"n{number}")
    host.opens(1)
    host.image.advance(t(3))
    for fields in ({}, {"process": APP.pid, "port": 443}, {"process": APP.pid}, {"client": "10.0.0.9"}):
        found = first(state, **fields)
        trails = answer(TrailRequest(key=SHARED, **fields), state).trails
        assert (found.dns_root, found.state, found.scope) == (trails[0].dns_root, trails[0].state, trails[0].scope)
        assert found.rivals == [one.dns_root for one in trails[1 : RIVALS + 1]]


def test_a_bound_connection_has_its_process(host, state):
    """An open connection has the name to which it is bound, how it was bound, and its process."""
    host.asks(0, "one")
    host.opens(1)
    host.image.advance(t(3))
    found = first(state, process=APP.pid, port=443)
    assert (found.dns_root, found.bound, found.process.id, found.process.name) == ("one", "thread", 70, "app")
    assert (found.asked_by.id, found.history) == (70, True)
    assert first(state, process=71, port=443).bound == ""


def test_each_connection_has_its_own_time(host, state):
    """A connection is answered as of its time; one of the request goes before."""
    host.asks(0, "one")
    host.asks(2, "two")
    host.image.advance(t(3))
    one, two = (ConnectionTo(address=SHARED, at_ns=t(after)) for after in (1, 3))
    found = answer(TrailManyRequest(connections=(one, two, one)), state)
    assert [each.dns_root for each in found] == ["one", "two", "one"]
    found = answer(TrailManyRequest(connections=(one, two), at_ns=t(1)), state)
    assert [each.dns_root for each in found] == ["one", "one"]


def test_an_unknown_address_has_no_trail(host, state):
    """Without data the reply has an empty map, and states whether the time is known."""
    host.asks(0, "one")
    assert first(state, OTHER) == FirstTrail()
    host.image.forget(t(1))
    assert first(state, OTHER, at_ns=t(0.5)) == FirstTrail(history=False)


def test_a_process_has_its_unit_and_container(host, state):
    """Whoever connected, and whoever asked, has unit, slice and container of the process."""
    of_unit = replace(APP, unit="web.service", slice="web.slice", container_id="c0ffee", container_name="web")
    of_unit = replace(of_unit, container_image="nginx:1", container_labels=(("app", "web"),))
    host.asks(0, "one", by=of_unit)
    host.opens(1, by=of_unit)
    host.image.advance(t(3))
    found = to_builtins(first(state, process=APP.pid, port=443))
    words: dict[str, object] = {
        "unit": "web.service",
        "slice": "web.slice",
        "container_id": "c0ffee",
        "container_name": "web",
    }
    words |= {"container_image": "nginx:1", "container_labels": {"app": "web"}}
    assert found["process"] == found["asked_by"] == {"id": 70, "name": "app", **words}


def test_an_answer_of_another_host_is_found_by_its_client(state):
    """A connection of a client elsewhere has the name that its probe saw this client receive."""
    for host, name in (("one", "a.example"), ("two", "b.example")):
        flow = there("10.0.0.2" if host == "one" else "10.0.0.3", namespace=1, socket=7, egress=True)
        for payload, way in ((query(name), flow), (by_hand(query(name)[12:], A_RECORD), back(flow))):
            state.image.feed(t(0), payload, Circumstances(way, None, live=True, host=host))
    found = [first(state, client=client) for client in ("10.0.0.2", "10.0.0.3")]
    assert [(one.dns_root, one.scope) for one in found] == [("a.example", "host"), ("b.example", "host")]


A_RECORD = record(b"\xc0\x0c", A, packed(SHARED), 60)
NAMES = ("a.example", "b.example", "c.example", "d.example", "e.example", "f.example", "g.example")
REVERSE = "1.2.0.192.in-addr.arpa"  # of SHARED
TARGETS = (SHARED, SHARED, SHARED, SHARED, SHARED6, "127.0.0.1")
PROCESSES = (
    APP,
    Process(71, "other", start_time=t(-50)),
    Process(70, "app", "/bin/app", container_id="c0ffee", start_time=t(-9)),
)
names, targets, processes = map(st.sampled_from, (NAMES, TARGETS, PROCESSES))
lives = st.sampled_from([1, 9, 600])
steps = st.one_of(
    *[st.tuples(st.just("asks"), names, st.sets(targets | st.just(OTHER), min_size=1), processes, lives)] * 3,
    *[st.tuples(st.just("opens"), targets, processes)] * 2,
    st.tuples(st.just("repeats"), names, targets, st.integers(2, 40)),
    st.tuples(st.just("follows"), st.lists(names, min_size=2, max_size=4, unique=True), processes, lives, lives),
    st.tuples(st.just("points"), st.sampled_from([REVERSE, "a.example"]), st.sets(names, min_size=1, max_size=2)),
    st.tuples(st.just("says"), names | targets),
    st.tuples(st.just("exits"), processes),
)
connections = st.tuples(
    st.none() | st.floats(-0.1, 1.1),  # the time of the connection, in the time of all that happened
    st.builds(
        ConnectionTo,
        address=targets,
        process=st.sampled_from([None, 70, 71]),
        container=st.sampled_from([None, None, "c0ffee"]),
        client=st.sampled_from([None, "10.0.0.2"]),
        port=st.sampled_from([None, 443]),
        source_port=st.sampled_from([None, 50000]),
        host=st.sampled_from(["", "", "elsewhere"]),
    ),
)


def take(host: Host, after: float, what: str, *values) -> None:
    """Let something happen on a host at a time."""
    match what, values:
        case "asks", (name, addresses, process, ttl):
            host.asks(after, name, *sorted(addresses), by=process, ttl=ttl)
        case "repeats", (name, address, count):
            for number in range(count):
                host.asks(after + number / 100, name, address)
        case "follows", (chain, process, ttl, last):
            records = [record(wire(one), CNAME, wire(other), ttl) for one, other in pairwise(chain)]
            hears(host, after, chain[0], A, process, *records, record(wire(chain[-1]), A, packed(SHARED), last))
        case "points", (question, owned):
            records = [record(wire(REVERSE), PTR, wire(name), 60) for name in sorted(owned)]
            alias = [] if question == REVERSE else [record(wire(question), CNAME, wire(REVERSE), 60)]
            hears(host, after, question, PTR, APP, *alias, *records)
        case "opens", (address, process):
            host.opens(after, address, process)
        case "says", (name,):
            host.image.note_server_name(SHARED, ServerNameSighting(t(after), name, "sni", "10.0.0.2", 443))
            host.image.binder.bindings.note_said(("", host.socket), t(after), name, "sni")
        case "exits", (process,):
            host.exits(after, process)


def hears(host: Host, after: float, question: str, kind: int, process: Process, *records: bytes) -> None:
    """Let a process ask, and receive these records."""
    flow = host.queries(after, question, kind, process)
    host.dns(after + 0.001, by_hand(query(question, kind)[12:], *records), back(flow), process)


def wire(name: str) -> bytes:
    """Return a name as it is sent."""
    return query(name)[12:-4]


@given(
    happened=st.lists(st.tuples(st.sampled_from([0.0, 0.1, 1, 5, 30, 61]), steps), min_size=4, max_size=20),
    asked=st.lists(connections, min_size=4, max_size=12),
    bounds=st.sampled_from([{}, {"size": 3}, {"grace": 1, "history": 4}, {"connections": 1}]),
)
def test_many_first_trails_are_those_of_single_trails(happened, asked, bounds):
    """Whatever happened on a host, `trail_many` states of each connection what `trail` states of it first."""
    host, after = Host(**bounds), 0.0
    state = CacheState(host.image, SlowClock())
    for pause, (what, *values) in happened:
        after += pause
        take(host, after, what, *values)
    host.image.advance(t(after))
    host.image.sweep(100)
    timed = tuple(to if part is None else replace(to, at_ns=t(part * after)) for part, to in asked)
    found = answer(TrailManyRequest(connections=timed), state)
    for to, one in zip(timed, found, strict=True):
        assert stated(one) == of_trail(to, state)


def stated(found: FirstTrail) -> tuple:
    """Return what a trail of the same connection states, too."""
    asker = None if found.asked_by is None else (found.asked_by.id, found.asked_by.name, found.asked_by.container_id)
    return found.dns_root, found.state, found.scope, found.rivals, found.bound, asker, found.history


def of_trail(to: ConnectionTo, state: CacheState) -> tuple:
    """Return what a reply to `trail` states of a connection, in the form of `stated`."""
    connection = Connection(to.process, to.container, to.client, to.port, to.source_port)
    fields = {**connection.fields, "host": to.host or None, "at_ns": to.at_ns}
    known = to.at_ns is None or state.image.remembers(to.at_ns, connection)
    try:
        trails = answer(TrailRequest(key=to.address, limit=RIVALS + 1, **fields), state)
    except RefusedRequestError as refused:
        return "", "", "", [], "", None, refused.history
    assert known or not trails.history
    of_names = [one for one in trails.trails if one.dns_root != to.address]
    if not of_names:
        return "", "", "", [], "", None, known
    head, *others = of_names
    rivals = [*dict.fromkeys(one.dns_root for one in others if one.dns_root != head.dns_root)]
    bound = {text: by for by, text in BOUND.items()}.get(head.reasons[0], "")
    asker = next(((one.process_id, one.process_name, one.container_id) for one in head.asked), None)
    return head.dns_root, head.state, head.scope, rivals, bound, asker if asker and asker[0] else None, known


def test_a_reply_takes_bounded_time(host, state):
    """A reply ends once its time is over, with one connection at least."""
    host.asks(0, "one")
    for step, count in ((0.0, 9), (0.002, 3), (1.0, 1)):
        state.clock.step = step
        found = answer(TrailManyRequest(connections=(ConnectionTo(address=SHARED),) * 9), state)
        assert [each.dns_root for each in found] == ["one"] * count
