"""The collector of `dnstrail run`: what the events of processes add up to.

Tests of dnstrail_run.connections.
"""

from __future__ import annotations

import pytest

from builders.dns_builders import AAAA, A, by_hand, record
from builders.talk import packed, query
from dnstrail.captured import Captured, Flow, Process
from dnstrail.events import (
    NET_PACKET_DNS,
    NET_TCP_CLOSE,
    NET_TCP_CONNECT,
    NET_TCP_CONNECT_RESULT,
    NET_UDP_CONNECT,
    Event,
)
from dnstrail_run.reach import Reach

RESOLVER, OTHER = "10.0.0.53", "192.0.2.53"
APP = Process(70, "app")


@pytest.fixture
def reach():
    return Reach(frozenset({packed(RESOLVER)}))


@pytest.fixture
def small():
    return Reach(frozenset({packed(RESOLVER)}), 2)


def take(reach, name, flow=None, process=APP, payload=b"", dst_dns=None, **args):
    extra = {} if dst_dns is None else {"dst_dns": dst_dns}
    reach.take(Event(name, Captured(1, payload, flow, process, args), args=extra))


def asks(reach, name, server=RESOLVER, kind=A, process=APP, **fields):
    flow = Flow(packed("10.0.0.2"), 40000, packed(server), 53, "udp", 1, 1, egress=True, role="client", **fields)
    take(reach, NET_PACKET_DNS, flow, process, query(name, kind))


def sends(reach, payload, server=OTHER, role="client", source=40000, port=53, **args):
    flow = Flow(packed("10.0.0.2"), source, packed(server), port, "udp", 1, 1, egress=True, role=role)
    take(reach, NET_PACKET_DNS, flow, payload=payload, **args)


def answers(reach, name, rcode=0, kind=A, records=1):
    flow = Flow(packed(RESOLVER), 53, packed("10.0.0.2"), 40000, "udp", 1, 1, egress=False, role="client")
    payload = bytearray(by_hand(query(name, kind)[12:], *[record(b"\xc0\x0c", A, packed("192.0.2.1"), 60)] * records))
    payload[3] |= rcode
    take(reach, NET_PACKET_DNS, flow, APP, bytes(payload))


def connects(reach, address="192.0.2.1", port=443, names=("one.example",), process=APP, socket=1, udp=False):
    flow = Flow(b"", 0, packed(address), port, "udp" if udp else "tcp", socket, 1, egress=True)
    topic = NET_UDP_CONNECT if udp else NET_TCP_CONNECT
    take(reach, topic, flow, process, dst_dns=[*names], dst=address, dst_port=port)


def concludes(reach, socket=1, error=""):
    flow = Flow(b"", 0, packed("192.0.2.1"), 443, "tcp", socket, 1, egress=True)
    take(reach, NET_TCP_CONNECT_RESULT, flow, connected=not error, error=error)


def closes(reach, socket=1, sent=None, received=None, process=APP):
    flow = Flow(b"", 0, packed("192.0.2.1"), 443, "tcp", socket, 1, egress=True)
    counted = {} if sent is None else {"bytes_sent": sent, "bytes_received": received}
    take(reach, NET_TCP_CLOSE, flow, process, **counted)


def bytes_of(reached):
    return reached.bytes_sent, reached.bytes_received, reached.bytes_unknown


@pytest.mark.parametrize(
    ("rcode", "records", "outcome"),
    [
        (0, 1, "answered"),
        (0, 0, "no data"),
        (3, 0, "NXDOMAIN"),
        (5, 0, "refused"),
        (2, 0, "failed"),
        (None, 0, "unanswered"),
    ],
)
def test_a_name_has_the_outcome_of_its_answer(reach, rcode, records, outcome):
    """The response code of the answer is the outcome of the question."""
    asks(reach, "one.example")
    if rcode is not None:
        answers(reach, "one.example", rcode, records=records)
    [name] = reach.names
    assert (name.name, name.outcome, name.questions, name.asked_by.pid) == ("one.example", outcome, 1, 70)


def test_a_name_has_its_best_outcome(reach):
    """A name that is answered for one type is answered, whatever the other types."""
    for kind in (A, AAAA):
        asks(reach, "one.example", kind=kind)
    answers(reach, "one.example", 2, AAAA, records=0)
    answers(reach, "one.example")
    [name] = reach.names
    assert (name.outcome, name.questions) == ("answered", 2)
    assert name.types == ["A", "AAAA"]


def test_connections_add_up_by_name_end_and_process(reach):
    """Equal connections are one row with the number of each result."""
    asks(reach, "one.example")
    for socket, error in ((1, ""), (2, ""), (3, "ETIMEDOUT")):
        connects(reach, socket=socket, names=("one.example", "two.example"))
        concludes(reach, socket, error)
    connects(reach, socket=4)
    connects(reach, port=80, socket=5)
    concludes(reach, 5, "ECONNREFUSED")
    first, second = reach.connections
    assert (first.name, first.others, first.port) == ("one.example", ["two.example"], 443)
    assert first.results == {"connected": 2, "ETIMEDOUT": 1, "unknown": 1}
    assert (second.port, second.results) == (80, {"ECONNREFUSED": 1})


def test_names_are_completed_at_the_end(reach):
    """A connection whose name the cache did not know yet is named at the end, and added to its like."""
    asks(reach, "one.example")
    connects(reach)
    connects(reach, socket=2, names=())
    concludes(reach, 2)
    connects(reach, "192.0.2.2", names=(), socket=3)
    asked = []

    def rank(connections):
        asked.extend((one.address, one.socket) for one in connections)
        return [["one.example"] if one.address == "192.0.2.1" else [] for one in connections]

    reach.complete_names(rank)
    assert asked == [("192.0.2.1", 2), ("192.0.2.2", 3)]
    assert [(one.name, one.results) for one in reach.connections] == [
        ("one.example", {"unknown": 1, "connected": 1}),
        ("", {"unknown": 1}),
    ]


def test_only_a_name_that_the_command_asked_names_a_connection(reach):
    """The likeliest name that the command asked, in whatever order the events arrive, is the name of a connection."""
    connects(reach, names=("others.example", "alias.example", "one.example", "two.example"))
    connects(reach, "192.0.2.2", names=("others.example",))
    asks(reach, "two.example")
    asks(reach, "one.example")
    assert [one.name for one in reach.connections] == ["one.example", ""]
    assert reach.connections[1].others == ["others.example"]


def test_a_name_that_a_daemon_asked_for_the_command_is_its_own(reach):
    """A result of getaddrinfo() in a process of the command is a name that the command asked."""
    payload = by_hand(query("one.example")[12:], record(b"\xc0\x0c", A, packed("192.0.2.1"), 60))
    take(reach, NET_PACKET_DNS, payload=payload, getaddrinfo=0)
    connects(reach)
    assert [(one.name, one.outcome) for one in reach.names] == [("one.example", "answered")]
    assert [one.name for one in reach.connections] == ["one.example"]


def test_bytes_add_up_over_the_connections_that_ended(reach):
    """A row has the bytes of its connections that ended, and the number of the others; a refused one has none."""
    for socket in (1, 2, 3, 4):
        connects(reach, socket=socket)
        concludes(reach, socket)
    closes(reach, 1, 10, 1000)
    closes(reach, 2, 5, 1 << 40)
    closes(reach, 3)  # by a kernel that does not count
    connects(reach, port=80, socket=5)
    concludes(reach, 5, "ECONNREFUSED")
    connects(reach, port=81, socket=6)
    concludes(reach, 6)
    connects(reach, port=82, udp=True)
    assert [bytes_of(one) for one in reach.connections] == [
        (15, 1000 + (1 << 40), 2),
        (0, 0, 0),
        (None, None, 1),
        (None, None, 1),
    ]


def test_a_socket_that_connects_again_has_two_results_and_two_ends(reach):
    """Each result and each end of a socket belongs to the attempt before it."""
    connects(reach, port=81)
    concludes(reach, 1, "ECONNREFUSED")
    for sent in (1, 2):
        connects(reach)
        concludes(reach)
        closes(reach, 1, sent, 100)
    assert [(one.results, bytes_of(one)) for one in reach.connections] == [
        ({"ECONNREFUSED": 1}, (0, 0, 0)),
        ({"connected": 2}, (3, 200, 0)),
    ]


def test_a_connection_of_a_process_that_ended_is_closing(reach):
    """The end of a connection is on the way once its process has ended."""
    connects(reach)
    assert (reach.is_closing({71}), reach.is_closing({70})) == (False, True)
    concludes(reach)
    closes(reach, 1, 1, 2)
    assert not reach.is_closing({70})


def test_dns_to_the_resolvers_is_no_connection(reach):
    """DNS over TCP to a configured resolver is left out, and so are sockets that can send nothing."""
    connects(reach, RESOLVER, 53, ())
    connects(reach, "192.0.2.1", 0, (), udp=True)
    assert reach.connections == []
    flow = Flow(b"", 0, packed(RESOLVER), 53, "tcp", 9, 1, egress=True)
    take(reach, NET_TCP_CONNECT_RESULT, flow, connected=True, error="")
    assert 9 not in reach._connections
    connects(reach, OTHER, 53, ())
    connects(reach, "192.0.2.1", 443, (), udp=True)
    assert [(one.address, one.transport, one.name) for one in reach.connections] == [
        (OTHER, "tcp", ""),
        ("192.0.2.1", "udp", ""),
    ]


def test_other_servers_are_reported(reach):
    """A server that is no configured resolver is reported with its questions, by the address that was meant."""
    asks(reach, "one.example")
    asks(reach, "one.example", OTHER)
    asks(reach, "two.example", OTHER)
    asks(reach, "one.example", OTHER, meant=packed(RESOLVER), meant_port=53)
    asks(reach, "one.example", RESOLVER, meant=packed("192.0.2.54"), meant_port=53)
    assert [(one.address, one.port, one.questions) for one in reach.foreign_dns] == [
        (OTHER, 53, 2),
        ("192.0.2.54", 53, 1),
    ]


@pytest.mark.parametrize("payload", [b"", b"\1", b"a tunnel" * 20, b"\0\0\x81" + query("one.example")[3:]])
def test_a_server_is_reported_whatever_it_gets(reach, payload):
    """What goes to the port of DNS of another server reaches this server, also if it is no question."""
    sends(reach, payload)
    sends(reach, payload, RESOLVER)
    assert [(one.address, one.port, one.questions) for one in reach.foreign_dns] == [(OTHER, 53, 1)]
    assert reach.names == []


@pytest.mark.parametrize(("source", "port"), [(53, 40000), (53, 53)])
def test_who_gets_an_answer_is_no_server(reach, source, port):
    """A process that asks and answers reaches no server by an answer, nor by one that cannot be read."""
    for payload in (b"\0\0\x81" + query("one.example")[3:], b"no message"):
        sends(reach, payload, role="forwarder", source=source, port=port)
    assert reach.foreign_dns == []


def test_a_forwarder_reaches_its_server(reach):
    """A process that passes on a question asks a server; the question counts for its asker, if that is one of these."""
    asks(reach, "one.example")
    for name in ("one.example", "two.example"):
        sends(reach, query(name), role="forwarder", asker_seen=True)
    assert [(one.address, one.questions) for one in reach.foreign_dns] == [(OTHER, 2)]
    assert [(one.name, one.questions) for one in reach.names] == [("one.example", 1), ("two.example", 1)]


def test_the_tables_are_bounded(small):
    """Beyond the bound names, connections and servers are counted as left out."""
    for number in range(4):
        asks(small, f"n{number}.example", f"192.0.2.{number}")
        connects(small, f"192.0.2.{number}", socket=number)
    assert [len(found) for found in (small.names, small.connections, small.foreign_dns)] == [2, 2, 2]
    assert small.left_out == 6


def test_the_connections_that_wait_are_bounded(small):
    """Beyond the bound a connection is in the report, and its result and bytes are unknown and counted as left out."""
    for socket in range(1, 4):
        connects(small, socket=socket)
    for socket in range(1, 4):
        concludes(small, socket)
    for socket in range(1, 4):
        closes(small, socket, 1, 2)
    [one] = small.connections
    assert (one.results, bytes_of(one)) == ({"unknown": 1, "connected": 2}, (2, 4, 1))
    assert small.left_out == 1


def test_a_namespace_with_resolvers_of_its_own():
    """The configured resolvers of a process are those of its network namespace, where it has others."""
    reach = Reach(frozenset({packed(RESOLVER)}), named={1: {packed(OTHER)}})
    for server in (RESOLVER, OTHER):
        asks(reach, "one.example", server)
    assert [one.address for one in reach.foreign_dns] == [RESOLVER]
