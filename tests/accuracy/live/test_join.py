"""Connections on the wire, their events and their jobs."""

from __future__ import annotations

from typing import Any

import pytest

from clients import CLIENTS
from hosts import Host
from jobs import Job
from join import Joined, join
from observer import Observed
from wire import Connection

MILLISECOND = 1_000_000
HOSTS = [Host(1, "one", 0, 101), Host(2, "two", 0, 102)]
ADDRESS = "10.98.0.1"


def connection(opened: int, port: int = 1, name: str = "a.example", host: Host = HOSTS[0]) -> Connection:
    """Return a connection that was opened at a time in ms."""
    return Connection(opened * MILLISECOND, host.addresses[0], port, ADDRESS, 443, name)


def event(stamp: float, process: int, *, port: int = 0, host: Host = HOSTS[0], parent: int = 1) -> Observed:
    """Return an event at a time in ms."""
    nothing: dict[str, Any] = {"names": [], "trails": [], "late": 0}
    return Observed(round(stamp * MILLISECOND), process, parent, host.mount_namespace, port, ADDRESS, 443, **nothing)


def job(process: int, *names: str, host: int = 0) -> Job:
    """Return a job that ran for the first second."""
    return Job(process, CLIENTS[0], host, [*names], [], 0.0, process, 0, 1000 * MILLISECOND)


def processes(found: list[Joined]) -> list[int]:
    """Return the process of each connection, 0 without an event."""
    return [one.event.process if one.event else 0 for one in found]


def test_connections_to_one_address_take_their_events_in_order():
    """The events of one host, address and port belong to the connections in their order."""
    found = join([connection(12), connection(22)], [event(21, 7), event(11, 8)], [], HOSTS)
    assert processes(found) == [8, 7]


def test_a_source_port_decides_against_the_order():
    """An event with a source port belongs to the connection from there."""
    found = join([connection(12, 5), connection(13, 6)], [event(11, 7, port=6), event(12, 8, port=5)], [], HOSTS)
    assert processes(found) == [8, 7]
    assert not any(one.exchangeable for one in found)


@pytest.mark.parametrize(("stamp", "joined"), [(1500, 7), (2500, 7), (-5000, 0), (9000, 0)])
def test_an_event_with_a_source_port_may_be_some_seconds_off(stamp: int, joined: int):
    """A busy host delays an event, or the reading of its clock: the source port decides for some seconds."""
    assert processes(join([connection(2000, 5)], [event(stamp, 7, port=5)], [], HOSTS)) == [joined]


def test_hosts_do_not_exchange_their_events():
    """An event of another host is not joined, however close it is."""
    found = join([connection(12)], [event(11, 7, host=HOSTS[1])], [], HOSTS)
    assert processes(found) == [0]


def test_an_event_of_another_time_is_not_joined():
    """An event that came long before the connection, or after it, belongs to another."""
    assert processes(join([connection(2000)], [event(11, 7), event(2100, 8)], [], HOSTS)) == [0]


def test_events_of_one_moment_are_exchangeable():
    """Two events within a tenth of a millisecond could each belong to the connection."""
    found = join([connection(12), connection(12)], [event(11, 7), event(11.05, 8)], [], HOSTS)
    assert [one.exchangeable for one in found] == [True, False]


def test_the_job_is_that_of_the_process_or_of_its_parent():
    """A connection belongs to the job whose process, or whose child, connected."""
    jobs = [job(7, "a.example"), job(8, "a.example")]
    assert join([connection(12)], [event(11, 8)], jobs, HOSTS)[0].job is jobs[1]
    assert join([connection(12)], [event(11, 99, parent=8)], jobs, HOSTS)[0].job is jobs[1]


def test_a_connection_without_an_event_belongs_to_the_job_that_fetches_from_the_name():
    """Without an event the job is the one of that host and time that fetches from the name."""
    jobs = [job(7, "a.example", host=1), job(8, "b.example"), job(9, "a.example")]
    assert join([connection(12)], [], jobs, HOSTS)[0].job is jobs[2]
    assert join([connection(1200)], [], jobs, HOSTS)[0].job is None


def test_a_silent_connection_meant_the_only_name_of_its_client():
    """A connection that states no name meant the only name of its client, and is unknown for several."""
    for names, meant in ((("a.example",), "a.example"), (("a.example", "b.example"), "")):
        [found] = join([connection(12, name="")], [event(11, 7)], [job(7, *names)], HOSTS)
        assert found.meant == meant
