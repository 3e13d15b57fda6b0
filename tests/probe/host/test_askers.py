"""One capture of a question is the nearest to its asker, however many processes of the host pass it on."""

from __future__ import annotations

import dns.message
import pytest

from dnstrail.captured import CLIENT, FORWARDER, SERVER, Flow
from dnstrail_probe.host.askers import MOST, REMEMBERED, Askers

STUB, RESOLVER, UPSTREAM = b"\x7f\0\0\x01", b"\xac\x11\0\x02", b"\x08" * 4
APP, FORWARDS, SERVES = 10, 20, 30  # processes
QUERY = dns.message.make_query("A.example.com", "A", id=7)
ASKED, ANSWERED = QUERY.to_wire(), dns.message.make_response(QUERY).to_wire()
OTHER = dns.message.make_query("b.example.com", "A", id=7).to_wire()


def flow(source, port, destination, role):
    return Flow(source, port, destination, 53, role=role)


def answer(source, destination, port, role):
    return Flow(source, 53, destination, port, role=role)


@pytest.fixture
def askers():
    return Askers()


def test_a_question_through_a_forwarder_is_nearest_at_its_client(askers):
    """Client, forwarder (twice) and server capture question and answer: the asker was seen before all but the first."""
    questions = [
        askers.seen(flow(STUB, 4000, STUB, CLIENT), APP, ASKED, 0, client=True),
        askers.seen(flow(STUB, 4000, STUB, FORWARDER), FORWARDS, ASKED, 1, client=False),
        askers.seen(flow(RESOLVER, 5000, UPSTREAM, FORWARDER), FORWARDS, ASKED, 2, client=True),
        askers.seen(flow(RESOLVER, 5000, UPSTREAM, SERVER), SERVES, ASKED, 3, client=False),
    ]
    answers = [
        askers.seen(answer(UPSTREAM, RESOLVER, 5000, SERVER), SERVES, ANSWERED, 4, client=False),
        askers.seen(answer(UPSTREAM, RESOLVER, 5000, FORWARDER), FORWARDS, ANSWERED, 5, client=True),
        askers.seen(answer(STUB, STUB, 4000, FORWARDER), FORWARDS, ANSWERED, 6, client=False),
        askers.seen(answer(STUB, STUB, 4000, CLIENT), APP, ANSWERED, 7, client=True),
    ]
    assert questions == [False, True, True, True]
    assert answers == [True, True, True, False]


def test_a_server_is_the_only_capture_of_a_remote_client(askers):
    """The question of a client on another host counts at the server, and not again where a forwarder passes it on."""
    remote = b"\x0a\0\0\x09"
    assert not askers.seen(flow(remote, 4000, RESOLVER, FORWARDER), FORWARDS, ASKED, 0, client=False)
    assert askers.seen(flow(RESOLVER, 5000, UPSTREAM, FORWARDER), FORWARDS, ASKED, 1, client=True)
    assert not askers.seen(answer(RESOLVER, remote, 4000, FORWARDER), FORWARDS, ANSWERED, 2, client=False)


def test_a_question_of_the_forwarder_itself_is_its_own(askers):
    """A forwarder that asks what nobody asked it is the asker."""
    askers.seen(flow(STUB, 4000, STUB, FORWARDER), FORWARDS, ASKED, 0, client=False)
    assert not askers.seen(flow(RESOLVER, 5000, UPSTREAM, FORWARDER), FORWARDS, OTHER, 1, client=True)
    assert not askers.seen(flow(RESOLVER, 5000, UPSTREAM, FORWARDER), FORWARDS + 1, ASKED, 1, client=True)


def test_the_receiver_of_a_question_behind_nat_passes_it_on(askers):
    """A process to whose socket NAT led a question is its relay, as at a server's socket; no other process is."""
    askers.relayed(FORWARDS, ASKED, 0)
    askers.relayed(FORWARDS, ANSWERED, 0)
    assert askers.seen(flow(RESOLVER, 5000, UPSTREAM, FORWARDER), FORWARDS, ASKED, 1, client=True)
    assert askers.seen(answer(UPSTREAM, RESOLVER, 5000, FORWARDER), FORWARDS, ANSWERED, 2, client=True)
    assert not askers.seen(flow(RESOLVER, 5001, UPSTREAM, FORWARDER), FORWARDS + 1, ASKED, 1, client=True)
    assert not askers.seen(flow(RESOLVER, 5002, UPSTREAM, FORWARDER), FORWARDS, OTHER, 1, client=True)


def test_a_client_is_remembered_for_30_seconds(askers):
    """After that time its port may belong to another host's client."""
    askers.seen(flow(STUB, 4000, STUB, CLIENT), APP, ASKED, 0, client=True)
    server = flow(STUB, 4000, STUB, SERVER)
    assert askers.seen(server, SERVES, ASKED, REMEMBERED, client=False)
    assert not askers.seen(server, SERVES, ASKED, REMEMBERED + 1, client=False)


def test_a_message_without_a_question_is_harmless(askers):
    """A message that is no DNS has no question: it is never taken for a question that was passed on."""
    assert not askers.seen(flow(STUB, 1, STUB, SERVER), SERVES, b"", 0, client=False)
    assert not askers.seen(flow(RESOLVER, 2, UPSTREAM, FORWARDER), SERVES, b"x", 0, client=True)


def test_the_memory_is_bounded(askers):
    """The clients and questions that asked last are remembered."""
    for port in range(MOST + 10):
        askers.seen(flow(STUB, port, STUB, CLIENT), APP, ASKED, 0, client=True)
        askers.seen(flow(RESOLVER, port, STUB, SERVER), port, ASKED, 0, client=False)
    assert (len(askers._clients), len(askers._received)) == (MOST, MOST)
    assert not askers.seen(flow(STUB, 0, STUB, SERVER), SERVES, ASKED, 0, client=False)
