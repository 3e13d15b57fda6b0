"""The connections of programs whose names a daemon asks: nscd, or systemd-resolved over its own socket."""

from __future__ import annotations

import pytest

from builders.binding_helpers import APP, OTHER, SHARED, SHARED6, Host
from builders.dns_builders import t
from dnstrail.captured import Process
from dnstrail.connection import Connection

NSCD = Process(20, "nscd", thread_id=21, start_time=t(-900))
RESOLVED = Process(30, "systemd-resolve", thread_id=30, start_time=t(-900))
PROGRAM = Process(40, "dig", thread_id=40, start_time=t(-900))


@pytest.fixture
def host():
    return Host()


@pytest.mark.parametrize("daemon", [NSCD, RESOLVED], ids=lambda daemon: daemon.name)
def test_a_connection_spends_the_oldest_question_of_a_daemon(host, daemon):
    """A program that asks nothing connects to the names that its daemon asked, in the order of asking."""
    host.asks(0, "one", by=daemon).asks(0.01, "two", by=daemon)
    assert [host.opens(0.1), host.opens(0.2)] == ["one", "two"]


def test_a_daemon_is_bound_as_a_daemon(host):
    """The trail states how the name was found."""
    host.asks(0, "one", by=NSCD)
    host.opens(0.1)
    found = host.image.trails(SHARED, Connection(process=APP.pid, port=443), now=t(0.2))
    assert found.trails[0].reasons[0] == "bound to the connection: the oldest question of a daemon that asks for others"


def test_another_program_is_no_daemon(host):
    """The questions of any other process stay those of its own connections: the last one comes first."""
    host.asks(0, "one", by=PROGRAM).asks(0.01, "two", by=PROGRAM)
    assert [host.opens(0.1), host.opens(0.2)] == ["two", "two"]


def test_the_question_of_the_program_itself_comes_first(host):
    """A program that asks itself does not spend the question of a daemon."""
    host.asks(0, "daemon", by=NSCD).asks(0.01, "own")
    assert [host.opens(0.1), host.opens(0.2)] == ["own", "daemon"]


def test_a_daemon_asks_for_its_own_network_namespace(host):
    """A program in another network namespace does not spend the question of a daemon."""
    host.asks(0, "one", by=NSCD).asks(0.01, "two", by=NSCD)
    assert host.connects(0.1, namespace=2) == "two"
    assert [host.opens(0.2), host.opens(0.3)] == ["one", "two"]


@pytest.mark.parametrize(("after", "meant"), [(1.001, "one"), (1.002, "two")])
def test_a_question_of_a_daemon_waits_for_a_second(host, after, meant):
    """A program connects soon: later the last question comes first."""
    host.asks(0, "one", by=NSCD, answered=0.001).asks(0.5, "two", by=NSCD)
    assert host.opens(after) == meant


def test_a_program_tries_the_addresses_of_a_name_for_longer(host):
    """An attempt without reply leads to the next address of the name, more than a second after the answer."""
    host.asks(0, "one", SHARED6, OTHER, by=NSCD)
    assert host.connects(0.1, SHARED6) == "one"
    host.concludes(3.1, connected=False)
    host.asks(3.2, "two", OTHER, by=NSCD)
    assert [host.opens(3.3, OTHER), host.opens(3.4, OTHER)] == ["one", "two"]


def test_a_daemon_that_starts_again_asks_for_the_same_programs(host):
    """The last process with the name of a daemon is the daemon."""
    host.asks(0, "one", by=NSCD).asks(0.1, "two", by=Process(50, "nscd", thread_id=50, start_time=t(0.05)))
    assert [host.opens(0.2), host.opens(0.3)] == ["two", "two"]


def test_a_sinkhole_address_means_no_question_of_a_daemon(host):
    """A blocked name is bound only to the question of its own process."""
    host.asks(0, "blocked", "0.0.0.0", by=NSCD)
    assert host.opens(0.1, "0.0.0.0") == ""
