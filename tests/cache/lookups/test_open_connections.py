"""The operation `connections`: the open connections in pages, each with its name."""

from __future__ import annotations

import msgspec
import pytest

from builders.binding_helpers import APP, OTHER, SHARED, Host
from builders.dns_builders import t
from dnstrail.captured import Process
from dnstrail.connection import Connection
from dnstrail.image.open_connections import RIVALS
from dnstrail.protocol.lookups import ConnectionsRequest, RefusedRequestError, decode_request, encode_request
from dnstrail_cache.lookups import open_connections
from dnstrail_cache.lookups.answers import answer
from dnstrail_cache.state.cache_state import CacheState
from live.workers import SlowClock

BOXED = Process(80, "boxed", container_id="abcdef0123456789", container_name="web", thread_id=80, start_time=t(-50))
BOXED = msgspec.structs.replace(BOXED, container_image="nginx:1", container_labels=(("app", "web"),))


@pytest.fixture
def host():
    return Host(grace=1, history=4)


@pytest.fixture
def state(host):
    return CacheState(host.image, SlowClock())


def page(state, **fields):
    return answer(ConnectionsRequest(**fields), state)


def listed(state, **fields):
    """Return the connections of all pages."""
    found, cursor = [], ""
    while True:
        one = page(state, cursor=cursor, **fields)
        found += one.connections
        cursor = one.next
        if not cursor:
            return found


def test_a_connection_is_listed_with_its_name(host, state):
    """A connection is listed with its process, its ends, its name, and how the name was found."""
    host.asks(0, "one")
    host.opens(1)
    host.image.advance(t(3))
    [found] = listed(state)
    assert (found.process_id, found.process_name, found.client, found.client_port) == (70, "app", "10.0.0.2", 50000)
    assert (found.address, found.port, found.name, found.bound) == (SHARED, 443, "one", "thread")
    assert (found.state, found.connected, found.since, found.age) == ("live", True, t(1) / 1e9, 2)
    assert (found.transport, found.rivals) == ("tcp", [])


def test_a_connection_over_udp_is_listed_until_its_socket_ends(host, state):
    """A connection over UDP is listed as connected, since it sent a datagram, until its socket ends."""
    host.asks(0, "one")
    host.connects(1, transport="udp", source_port=40000)
    [found] = listed(state)
    assert (found.transport, found.connected, found.name, found.client_port) == ("udp", True, "one", 40000)
    host.closes(2)
    assert listed(state) == []


@pytest.mark.parametrize(("after", "expected"), [(59, "live"), (60.5, "grace"), (62, "expired"), (1000, "expired")])
def test_the_state_is_the_state_of_its_answers(host, state, after, expected):
    """The name stays for as long as the connection is open; its state follows the answers."""
    host.asks(0, "one")
    host.opens(0.5)
    host.image.advance(t(after))
    host.image.sweep(100)
    assert [(one.name, one.state) for one in listed(state)] == [("one", expected)]


def test_the_connections_that_were_open_at_a_time(host, state):
    """With `at` those are listed that were open then, as they were then, for as long as the image holds them."""
    host.asks(0, "one")
    host.connects(1)
    host.concludes(1.5)
    host.opens(2, by=BOXED)
    host.closes(3)
    host.exits(4, APP)
    found = [listed(state, at_ns=t(after)) for after in (0.5, 1.2, 2.5, 3.5, 4.5)]
    assert [[one.process_id for one in some] for some in found] == [[], [70], [70, 80], [70], []]
    assert [(one.connected, one.age) for one in (found[1][0], found[2][0])] == [(False, 0.2), (True, 1.5)]
    assert listed(state) == []
    assert page(state, at_ns=t(2.5)).history
    host.opens(7.5, by=BOXED)
    known = [page(state, at_ns=t(after)).history for after in (2.5, 2.999, 3, 5)]
    assert known == [False, False, True, True], "the first connection that ended is removed after four seconds"


def test_a_name_of_a_connection_that_is_removed(host):
    """A lookup of a connection knows that it may have been removed; other lookups of that time know all."""
    host.asks(0, "one", ttl=1000)
    host.opens(1)
    host.closes(3)
    host.opens(8, OTHER)
    own = Connection(process=70, port=443)
    for after, connection, known in (
        (2, own, False),
        (4, own, True),
        (2, Connection(process=70), True),
        (2, None, True),
    ):
        found = host.image.get(SHARED, at=t(after), connection=connection)
        assert (found.dns_root, found.history) == ("one", known)
        trails = host.image.trails(SHARED, connection or Connection(), at=t(after))
        assert trails.history is known


def test_pages_of_a_time(host, state):
    """The pages of a time hold each connection once, also if several were opened at one time, and pages end in time."""
    for number in range(open_connections.PAGE + 3):
        host.opens(number // 50)
    ports = [one.since for one in listed(state, at_ns=t(900))]
    assert (len(ports), ports) == (open_connections.PAGE + 3, sorted(ports))
    first = page(state, at_ns=t(900))
    rest = page(state, at_ns=t(900), cursor=first.next)
    assert (len(first.connections), len(rest.connections), rest.next) == (open_connections.PAGE, 3, "")
    state.clock.step = open_connections.AT_ONCE
    assert len(page(state, at_ns=t(900)).connections) == 1
    assert len(listed(state, at_ns=t(900))) == open_connections.PAGE + 3


def test_only_open_connections_are_listed(host, state):
    """A connection that was closed, or whose process has ended, is listed no longer; an attempt is marked."""
    host.opens(0)
    host.closes(1)
    host.opens(2, by=BOXED)
    host.exits(3, BOXED)
    host.connects(4)
    assert [(one.process_id, one.connected, one.name, one.state) for one in listed(state)] == [(70, False, "", "")]


def test_a_process_or_a_container_selects(host, state):
    """`process` selects a process, and `container` a container by name, image, label or the beginning of its id."""
    host.opens(0)
    host.opens(1, by=BOXED)
    chosen = [{"process": 80}, {"process": 80, "container": "web"}]
    chosen += [{"container": given} for given in ("web", "abcdef", "nginx:?", "app=w*")]
    assert [[one.process_id for one in listed(state, **fields)] for fields in chosen] == [[80]] * 6
    unknown = [{"process": 71}, {"container": "we"}, {"container": "bcd"}, {"container": ""}, {"container": "web=app"}]
    assert [listed(state, **fields) for fields in unknown] == [[]] * 5


def test_a_reply_has_the_labels_of_a_container(host, state):
    """A connection of a container with labels states them, and another one has no such field."""
    host.opens(0)
    host.opens(1, by=BOXED)
    found = [msgspec.to_builtins(one).get("container_labels") for one in listed(state)]
    assert sorted(found, key=bool) == [None, {"app": "web"}]


def test_rivals_are_the_other_names_of_the_address(host, state):
    """With `rivals` the other live names are listed, the likeliest first, within a bound."""
    host.asks(0, "one")
    for number in range(20):
        host.asks(0.1 + number / 100, f"n{number}")
    host.asks(1, "elsewhere", OTHER)
    host.opens(2)
    host.image.advance(t(3))
    [found] = listed(state, rivals=True)
    assert (found.name, len(found.rivals), found.rivals[0]) == ("one", RIVALS, "n19")
    assert not {"one", "elsewhere"} & {*found.rivals}


def test_pages_hold_each_connection_once(host, state):
    """A page holds at most 256 connections; the pages hold each one once, without those opened after the first page."""
    for number in range(2 * open_connections.PAGE + 1):
        host.opens(number)
    first = page(state)
    assert len(first.connections) == open_connections.PAGE
    host.opens(10_000)
    rest = page(state, cursor=first.next)
    last = page(state, cursor=rest.next)
    assert (len(rest.connections), len(last.connections), last.next) == (open_connections.PAGE, 1, "")


def test_a_page_ends_in_time(host, state):
    """A page ends after 5 ms with at least one connection, also one that is not listed."""
    for number in range(4):
        host.opens(number, by=BOXED if number % 2 else APP)
    state.clock.step = open_connections.AT_ONCE
    assert [len(page(state).connections), len(page(state, process=80).connections)] == [1, 0]
    assert [len(listed(state)), len(listed(state, process=80))] == [4, 2]


@pytest.mark.parametrize("cursor", ["x", "1", "1 2 3", "-1 2", "1 2\n", "٣ ٣", "9" * 41])
def test_a_wrong_cursor_is_refused(cursor):
    """A cursor that no page contained is refused."""
    with pytest.raises(RefusedRequestError):
        decode_request(encode_request("connections", cursor=cursor))
