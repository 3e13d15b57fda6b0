from __future__ import annotations

import time
from ipaddress import ip_address

import pytest

from dnstrail.bus.ipc import lookups_address
from dnstrail.captured import Captured, Flow
from dnstrail.client import DnsDataSource
from dnstrail.connection_names import ConnectionEnricher
from dnstrail.events import NET_TCP_CONNECT, NET_UDP_CONNECT, SCHED_PROCESS_EXIT, Event
from live.workers import FakeClock, asker, cache, open_bus, probe, response, seen, short_folder, wait_until_seen


@pytest.fixture
def folder():
    with short_folder() as folder:
        yield folder


@pytest.fixture
def bus():
    with open_bus() as bus:
        yield bus


def connection(address, mark=None, name=NET_TCP_CONNECT):
    flow = Flow(b"", 0, ip_address(address).packed, 443, "tcp", egress=True)
    return Event(name, Captured(1, b"", flow, args={"dst": address, "dst_port": 443}), mark)


def test_connections_have_the_names_of_their_addresses(folder, bus):
    """Every connection of a batch has the names that lead to its address, in the order of a lookup, or []."""
    answer = response("www.a.com", "www.a.com 60 CNAME a.com.", "a.com 60 A 192.0.2.1", "a.com 60 AAAA 2001:db8::1")
    other = Event(SCHED_PROCESS_EXIT, Captured(1))
    with cache(folder) as address, probe(folder) as publishing, asker(address) as plain:
        mark = publishing.turn(seen(answer))
        wait_until_seen(plain, mark)
        names = ConnectionEnricher(DnsDataSource(address, bus=bus))
        events = [connection(to, mark) for to in ("192.0.2.1", "198.51.100.1", "2001:db8::1")]
        events.append(connection("192.0.2.1", mark, NET_UDP_CONNECT))
        found = names.fill([*events, other])
    known = ["www.a.com", "a.com"]
    assert [event.arg("dst_dns") for event in found] == [known, [], known, known, None]
    assert found[-1] is other


def test_batch_waits_for_its_own_turn(folder, bus):
    """An answer that arrived with the connection, and is not in the image yet, is waited for and found."""
    with cache(folder) as address, probe(folder) as publishing, asker(address) as plain:
        wait_until_seen(plain, publishing.turn())
        names = ConnectionEnricher(DnsDataSource(address, bus=bus))
        for number in range(1, 30):
            name = f"n{number}.example"
            mark = publishing.turn(seen(response(name, f"{name} 60 A 192.0.2.{number}")))
            assert names.fill([connection(f"192.0.2.{number}", mark)])[0].arg("dst_dns") == [name]


def test_without_a_cache_the_stream_waits_once(folder, bus):
    """Where no cache answers there are no names; one lookup waits, and for seconds no other does."""
    clock = FakeClock()
    names = ConnectionEnricher(DnsDataSource(lookups_address(folder), timeout=0.2, bus=bus), clock.monotonic)
    assert names.fill([connection("192.0.2.1")])[0].arg("dst_dns") == []
    began = time.monotonic()
    for _ in range(1000):
        assert names.fill([connection("192.0.2.1")])[0].arg("dst_dns") == []
    assert time.monotonic() - began < 1


def test_run_without_a_cache_has_no_names():
    """Without a cache in the run every connection has [], as in tracee."""
    assert ConnectionEnricher(None).fill([connection("192.0.2.1")])[0].arg("dst_dns") == []
