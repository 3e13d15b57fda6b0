from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import msgpack
import msgspec
import pytest

from dnstrail.bus.ipc import lookups_address
from dnstrail.captured import Captured, Flow, Process
from dnstrail.client import DnsDataSource
from dnstrail.connection_names import ConnectionEnricher
from dnstrail.events import NET_TCP_CONNECT, NET_UDP_CONNECT, SCHED_PROCESS_EXIT, Event
from live.workers import (
    BOUND,
    FakeClock,
    answering,
    asker,
    cache,
    open_bus,
    probe,
    response,
    seen,
    short_folder,
    wait_until,
    wait_until_seen,
)

AT = 1001 * 10**9  # the time of each connection, in ns


@pytest.fixture
def folder():
    with short_folder() as folder:
        yield folder


@pytest.fixture
def bus():
    with open_bus() as bus:
        yield bus


def connection(address, mark=None, name=NET_TCP_CONNECT, *, process=None, source=b"", port=443):
    flow = Flow(source, 0, ip_address(address).packed, port, "tcp", socket=9, egress=True)
    return Event(name, Captured(AT, b"", flow, process, {"dst": address, "dst_port": port}), mark, "web")


def test_connections_have_the_names_of_their_addresses(folder, bus):
    """Every connection of a batch has the names of its address, or []; other events stay as they are."""
    answer = response("www.a.com", "www.a.com 60 CNAME a.com.", "a.com 60 A 192.0.2.1", "a.com 60 AAAA 2001:db8::1")
    other = Event(SCHED_PROCESS_EXIT, Captured(1))
    with cache(folder, clock=FakeClock()) as address, probe(folder) as publishing, asker(address) as plain:
        mark = publishing.turn(seen(answer))
        wait_until_seen(plain, mark)
        names = ConnectionEnricher(DnsDataSource(address, bus=bus, timeout=BOUND))
        events = [connection(to, mark) for to in ("192.0.2.1", "198.51.100.1", "2001:db8::1")]
        events.append(connection("192.0.2.1", mark, NET_UDP_CONNECT))
        found = names.fill([*events, other])
    known = ["www.a.com", "a.com"]
    assert [event.arg("dst_dns") for event in found] == [known, [], known, known, None]
    assert found[-1] is other


def test_each_connection_has_the_name_that_its_process_asked_for(folder, bus):
    """Two processes that connect to one address in one batch each have their own question first."""
    asked = [
        Captured(1000 * 10**9, response(name, f"{name} 60 A 192.0.2.1"), to_client(number), Process(70 + number))
        for number, name in enumerate(("a.com", "b.com"))
    ]
    with cache(folder, clock=FakeClock()) as address, probe(folder) as publishing:
        mark = publishing.turn(*asked)
        names = ConnectionEnricher(DnsDataSource(address, bus=bus, timeout=BOUND))
        found = names.fill([connection("192.0.2.1", mark, process=Process(pid)) for pid in (70, 71, 70)])
    assert [event.arg("dst_dns")[0] for event in found] == ["a.com", "b.com", "a.com"]


def to_client(number):
    """Return the flow of a response to a process."""
    return Flow(bytes([10, 0, 0, 53]), 53, bytes([10, 0, 0, 2]), 40000 + number, socket=7 + number)


@pytest.mark.parametrize("sinkhole", ["0.0.0.0", "127.0.0.1", "127.9.9.9", "::", "::1"])
def test_a_sinkhole_names_only_the_connection_of_its_asker(folder, bus, sinkhole):
    """A blocked name does not appear at connections of other processes to localhost."""
    kind = "AAAA" if ":" in sinkhole else "A"
    blocked = response("ads.test", f"ads.test 60 {kind} {sinkhole}", rdtype=kind)
    with cache(folder, clock=FakeClock()) as address, probe(folder) as publishing:
        mark = publishing.turn(Captured(1000 * 10**9, blocked, to_client(0), Process(70)))
        names = ConnectionEnricher(DnsDataSource(address, bus=bus, timeout=BOUND))
        found = names.fill([connection(sinkhole, mark, process=Process(pid)) for pid in (70, 71, 0)])
    assert [event.arg("dst_dns") for event in found] == [["ads.test"], [], []]


@pytest.fixture
def requests(folder):
    """Yield the requests to a cache without names."""
    received = []

    def answer(body):
        received.append(msgpack.unpackb(body))
        return msgpack.packb({"v": 1, "ok": True, "data": [[] for _ in received[-1]["connections"]]})

    with answering(lookups_address(folder), answer):
        yield received


def test_a_batch_is_one_request(folder, bus, requests):
    """One request contains each different connection once, with the fields that are known."""
    names = ConnectionEnricher(DnsDataSource(lookups_address(folder), bus=bus, timeout=BOUND))
    process = Process(70, "app", container_id="c1")
    events = [
        connection("192.0.2.1", ("s", 5), process=process, source=bytes([10, 0, 0, 2])),
        Event(SCHED_PROCESS_EXIT, Captured(1), ("s", 5)),
        connection("2001:db8::1", ("s", 5), NET_UDP_CONNECT, port=853),
        connection("192.0.2.1", ("s", 5), process=process, source=bytes([10, 0, 0, 2])),
    ]
    names.fill(events)
    known = {"address": "192.0.2.1", "process": 70, "container": "c1", "client": "10.0.0.2", "port": 443}
    known |= {"host": "web", "socket": 9, "event": ["s", AT]}
    other = {"address": "2001:db8::1", "port": 853, "host": "web", "socket": 9, "event": ["s", AT]}
    assert requests == [{"v": 1, "op": "rank", "after": [["s", 5]], "connections": [known, other]}]


def test_many_connections_are_several_requests(folder, bus, requests):
    """A lookup contains at most 64 connections, so that the cache serves others in between; one lookup waits."""
    names = ConnectionEnricher(DnsDataSource(lookups_address(folder), bus=bus, timeout=BOUND))
    found = names.fill([connection(f"192.0.2.{number}", ("s", 5)) for number in range(150)])
    assert [event.arg("dst_dns") for event in found] == [[]] * 150
    assert [len(request["connections"]) for request in requests] == [64, 64, 22]
    assert [request["after"] for request in requests] == [[["s", 5]], [], []]


def test_a_batch_without_connections_is_no_request(folder, bus, requests):
    """Events that are no connections ask nothing, nor do connections to what is no address."""
    names = ConnectionEnricher(DnsDataSource(lookups_address(folder), bus=bus, timeout=BOUND))
    nowhere = Event(NET_TCP_CONNECT, Captured(1, args={"dst": "unix", "dst_port": 1}))
    found = names.fill([Event(SCHED_PROCESS_EXIT, Captured(1)), nowhere, Event(NET_TCP_CONNECT, Captured(1))])
    assert [event.arg("dst_dns") for event in found] == [None, [], []]
    assert names.fill([]) == []
    assert requests == []


def test_batch_waits_for_its_own_turn(folder, bus):
    """An answer in the same turn as the connection is applied before the lookup, and found."""
    with cache(folder, clock=FakeClock()) as address, probe(folder) as publishing, asker(address) as plain:
        wait_until_seen(plain, publishing.turn())
        names = ConnectionEnricher(DnsDataSource(address, bus=bus, timeout=BOUND))
        for number in range(1, 30):
            name = f"n{number}.example"
            mark = publishing.turn(seen(response(name, f"{name} 60 A 192.0.2.{number}")))
            assert names.fill([connection(f"192.0.2.{number}", mark)])[0].arg("dst_dns") == [name]


def test_without_a_cache_the_stream_waits_once(folder, bus):
    """If no cache answers, one lookup waits; for five seconds no other is made. The connections are counted."""
    clock = FakeClock()
    source = DnsDataSource(lookups_address(folder), timeout=0.05, bus=bus)
    names = ConnectionEnricher(source, clock.monotonic)
    assert names.fill([connection("192.0.2.1")])[0].arg("dst_dns") == []
    with cache(folder, clock=FakeClock()) as address, probe(folder) as publishing, asker(address) as plain:
        wait_until_seen(plain, publishing.turn(seen(response("a.com", "a.com 60 A 192.0.2.1"))))
        clock.monotonic_time += 4.999
        assert names.fill([connection("192.0.2.1")])[0].arg("dst_dns") == []
        assert names.unnamed == 2
        source.client.timeout = BOUND
        clock.monotonic_time += 0.001
        wait_until(lambda: names.fill([connection("192.0.2.1")])[0].arg("dst_dns") or later(clock))
        unnamed = names.unnamed
        assert names.fill([connection("198.51.100.1")])[0].arg("dst_dns") == []
        assert names.unnamed == unnamed  # the cache has answered: it knows no name


@pytest.mark.parametrize("process", [Process(70, container_id="c" * 257), Process(1 << 65)], ids=["id", "number"])
def test_an_impossible_connection_of_a_host_delays_no_other(folder, bus, process):
    """What the cache refuses is counted as unnamed; the connections of the next host have their names at once."""
    with cache(folder, clock=FakeClock()) as address, probe(folder) as publishing, asker(address) as plain:
        wait_until_seen(plain, publishing.turn(seen(response("a.com", "a.com 60 A 192.0.2.1"))))
        names = ConnectionEnricher(DnsDataSource(address, bus=bus, timeout=BOUND), FakeClock().monotonic)
        assert names.fill([connection("192.0.2.1", process=process)])[0].arg("dst_dns") == []
        assert names.fill([connection("192.0.2.1")])[0].arg("dst_dns") == ["a.com"]
        assert names.unnamed == 1


def later(clock):
    """Let a cache that was still connecting be asked again."""
    clock.monotonic_time += 5.0


def test_run_without_a_cache_has_no_names():
    """A run without a cache gives every connection [], as tracee does."""
    assert ConnectionEnricher(None).fill([connection("192.0.2.1")])[0].arg("dst_dns") == []


@pytest.mark.parametrize(
    ("source", "args"),
    [(b"123", {}), (b"", {"src": [1]}), (b"", {"src": 7}), (b"", {"src_port": [1]})],
)
def test_a_connection_that_no_probe_sends_has_no_names(source, args):
    """A connection whose ends have impossible values ends nobody: it has []."""
    event = connection("192.0.2.1", source=source)
    flow = event.captured.flow if source else None
    captured = msgspec.structs.replace(event.captured, flow=flow, args={**event.captured.args, **args})
    assert ConnectionEnricher(None).fill([replace(event, captured=captured)])[0].args["dst_dns"] == []
