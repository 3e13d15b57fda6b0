"""Facts about connections, by the events that an image receives."""

from __future__ import annotations

import pytest

from builders.binding_helpers import APP, OTHER, SHARED, Host
from builders.dns_builders import t
from builders.talk import packed
from dnstrail.captured import Flow
from dnstrail.events import NET_SERVER_NAME, NET_TCP_CONNECT
from dnstrail.image.facts.connections import MOST_EXITED


@pytest.fixture
def host():
    """Return a host whose connections somebody takes."""
    host = Host()
    host.image.begin_connections()
    return host.asks(0, "name.example", SHARED)


def taken(host):
    """Return the facts since the last call."""
    return host.image.connections.take()


def ends(host):
    """Return reason, bytes sent and time of each end since the last call."""
    return [(one.stage.why, one.stage.sent, one.stage.time) for one in taken(host) if one.stage.name == "end"]


def test_the_life_of_a_connection(host):
    """A connection is opened with its name, has a result, and ends with its bytes."""
    host.connects(1)
    host.concludes(1.5)
    host.closes(3, bytes_sent=10, bytes_received=20)
    opened, result, ended = taken(host)
    assert [one.id for one in (opened, result, ended)] == [
        f"s/net_tcp_connect/1/0/{stage}" for stage in ("opened", "result", "end")
    ]
    assert (opened.meaning, opened.stage.time) == (("name.example", "thread", t(1)), t(1))
    opening = opened.opening
    assert (opening.process, opening.address, opening.port, opening.transport) == (APP, SHARED, 443, "tcp")
    assert (opening.cookie, opened.connected) == (host.socket, False)
    assert (result.connected, result.stage.time, result.client, result.client_port) == (
        True,
        t(1.5),
        "10.0.0.2",
        50000,
    )
    assert ended.stage[1:] == (t(3), "", "closed", 10, 20)
    assert (ended.meaning, ended.connected) == (opened.meaning, True)


def test_an_attempt_that_failed(host):
    """A failed attempt has a result with its error, and no end."""
    host.connects(1)
    host.concludes(2, connected=False, error="ECONNREFUSED")
    host.closes(2.5)
    host.exits(3)
    found = [(one.stage.name, one.connected, one.stage.error) for one in taken(host)]
    assert found == [("opened", False, ""), ("result", False, "ECONNREFUSED")]


def test_the_name_that_a_connection_sends(host):
    """The name that a connection sends is a stage, and holds from then on."""
    host.connects(1)
    to_server = Flow(packed("10.0.0.2"), 50000, packed(SHARED), 443, "tcp", host.socket, 1, egress=True)
    host.apply(NET_SERVER_NAME, 2, to_server, APP, server_name="said.example", evidence="sni")
    host.closes(3)
    assert [(one.stage.name, *one.meaning[:2]) for one in taken(host)] == [
        ("opened", "name.example", "thread"),
        ("named", "said.example", "sni"),
        ("end", "said.example", "sni"),
    ]


def test_a_socket_that_connects_again(host):
    """A socket that is used again has ended its connection before, and begins another one."""
    host.connects(1)
    host.apply(NET_TCP_CONNECT, 2, host.flow(OTHER, 443), APP, dst=OTHER, dst_port=443)
    host.closes(3)
    assert [(one.id, one.stage.why) for one in taken(host)] == [
        ("s/net_tcp_connect/1/0/opened", ""),
        ("s/net_tcp_connect/1/0/end", "socket reused"),
        ("s/net_tcp_connect/1/1/opened", ""),
        ("s/net_tcp_connect/1/1/end", "closed"),
    ]


def test_the_bytes_of_a_process_that_ended(host):
    """The kernel closes the connections of a process after its end: the end has the reason and time of the process."""
    host.connects(1)
    host.exits(2)
    host.image.connections.advance(t(3))
    assert ends(host) == []
    host.closes(2.5, bytes_sent=10, bytes_received=20)
    host.closes(2.6)
    assert ends(host) == [("process ended", 10, t(2))]


def test_a_process_that_ended_without_a_close(host):
    """An end waits a second for its bytes, and has none then."""
    host.connects(1)
    host.exits(2)
    host.image.connections.advance(t(3) + 1)
    host.closes(3.1, bytes_sent=10, bytes_received=20)
    assert ends(host) == [("process ended", -1, t(2))]


def test_many_connections_of_a_process_that_ended(host):
    """Beyond 4,096 ends that wait for their bytes the first one has none."""
    for _ in range(MOST_EXITED + 1):
        host.connects(1)
    host.exits(2)
    assert ends(host) == [("process ended", -1, t(2))]


def test_a_probe_that_is_gone(host):
    """The connections of its start end once, and remain open for lookups: they outlast their probe."""
    host.connects(1)
    host.concludes(1.5)
    host.image.connections.end_start("another", t(2))
    assert ends(host) == []
    host.image.connections.end_start("s", t(2))
    host.closes(4)
    host.exits(5)
    assert ends(host) == [("probe gone", -1, t(2))]
    assert host.bound(3, process=APP.pid, port=443, past=True) == "name.example"


def test_an_evicted_connection():
    """A connection that is evicted while it is open ends so; one that had ended does not end again."""
    host = Host(connections=2)
    host.image.begin_connections()
    for after in (1, 2):
        host.connects(after)
    host.closes(2.5)
    for after in (3, 4):
        host.connects(after)
    assert ends(host) == [("closed", -1, t(2.5)), ("evicted", -1, t(4))]


def test_connections_from_before(host):
    """A connection that was opened before the collection began has no facts, and nothing is collected after its end."""
    host.image.end_connections()
    host.connects(1)
    collected = host.image.begin_connections()
    host.closes(2)
    host.image.end_connections()
    host.connects(3)
    assert collected.take() == []
