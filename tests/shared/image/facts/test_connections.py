"""Facts about connections, by the events that an image receives."""

from __future__ import annotations

import pytest

from builders.binding_helpers import APP, SHARED, Host
from builders.dns_builders import t
from builders.talk import packed
from dnstrail.captured import Flow
from dnstrail.events import NET_SERVER_NAME


@pytest.fixture
def host():
    """Return a host whose connections somebody takes."""
    host = Host()
    host.image.begin_connections()
    return host.asks(0, "name.example", SHARED)


def taken(host, *fields):
    """Return these fields of each stage that was taken."""
    return [tuple(getattr(one, field) for field in ("stage", *fields)) for one in host.image.connections.take()]


def test_the_life_of_a_connection(host):
    """A connection is opened with its name, has a result, and ends with its bytes."""
    host.connects(1)
    host.concludes(1.5)
    host.closes(3, bytes_sent=10, bytes_received=20)
    opened, result, ended = host.image.connections.take()
    assert [one.id for one in (opened, result, ended)] == [
        f"s/net_tcp_connect/1/0/{stage}" for stage in ("opened", "result", "ended")
    ]
    assert (opened.name, opened.by, opened.connected, opened.time, opened.opened) == (
        "name.example",
        "thread",
        False,
        t(1),
        t(1),
    )
    assert (opened.process, opened.address, opened.port, opened.transport) == (APP, SHARED, 443, "tcp")
    assert (result.connected, result.time, result.client, result.client_port) == (True, t(1.5), "10.0.0.2", 50000)
    assert (ended.why, ended.sent, ended.received, ended.time, ended.opened) == ("closed", 10, 20, t(3), t(1))
    assert (ended.name, ended.connected) == ("name.example", True)


def test_an_attempt_that_failed(host):
    """A failed attempt has a result with its error, and no end."""
    host.connects(1)
    host.concludes(2, connected=False, error="ECONNREFUSED")
    host.exits(3)
    assert taken(host, "connected", "error") == [("opened", False, ""), ("result", False, "ECONNREFUSED")]


def test_the_name_that_a_connection_sends(host):
    """The name that a connection sends is a stage, and holds from then on."""
    host.connects(1)
    to_server = Flow(packed("10.0.0.2"), 50000, packed(SHARED), 443, "tcp", host.socket, 1, egress=True)
    host.apply(NET_SERVER_NAME, 2, to_server, APP, server_name="said.example", evidence="sni")
    host.closes(3)
    assert taken(host, "name", "by") == [
        ("opened", "name.example", "thread"),
        ("named", "said.example", "sni"),
        ("ended", "said.example", "sni"),
    ]


@pytest.mark.parametrize("why", ["closed", "process ended", "socket reused", "probe gone"])
def test_why_a_connection_ends(host, why):
    """The end states its reason, once."""
    host.connects(1)
    if why == "process ended":
        host.exits(2)
    elif why == "probe gone":
        host.image.binder.bindings.end_host("elsewhere", t(2))
        host.image.binder.bindings.end_host("", t(2))
    elif why == "socket reused":
        host.apply("net_tcp_connect", 2, host.flow(SHARED, 443), APP, dst=SHARED, dst_port=443)
    host.closes(2)
    ended = [one for one in host.image.connections.take() if one.stage == "ended" and one.opened == t(1)]
    assert [(one.why, one.time) for one in ended] == [(why, t(2))]


def test_an_evicted_connection():
    """A connection that is evicted while it is open ends so; one that had ended does not end again."""
    host = Host(connections=2)
    host.image.begin_connections()
    for after in (1, 2):
        host.connects(after)
    host.closes(2.5)
    for after in (3, 4):
        host.connects(after)
    ends = [one for one in host.image.connections.take() if one.stage == "ended"]
    assert [(one.why, one.opened, one.time) for one in ends] == [("closed", t(2), t(2.5)), ("evicted", t(1), t(4))]


def test_connections_from_before(host):
    """A connection that was opened before the collection began has no facts, and nothing is collected after its end."""
    host.image.end_connections()
    host.connects(1)
    collected = host.image.begin_connections()
    host.closes(2)
    host.image.end_connections()
    host.connects(3)
    assert collected.take() == []
