"""Tests of dnstrail.process.signals."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections import Counter
from contextlib import suppress

import dns.message
import msgpack
import pytest

from dnstrail.bus.ipc import facts_address, findings_address, lookups_address
from dnstrail.captured import Captured, Flow, Process
from dnstrail.events import (
    DNS_TRANSACTION,
    NET_PACKET_DNS,
    NET_PACKET_DNS_REQUEST,
    NET_TCP_CONNECT,
    SCHED_PROCESS_EXIT,
    Event,
)
from dnstrail.pipeline.children import Children
from dnstrail.pipeline.pipeline import Pipeline, Plan
from dnstrail.pipeline.view import EventView
from dnstrail.process.clock import SystemClock
from dnstrail.protocol.batch_publisher import BatchPublisher
from dnstrail.protocol.batches import TURN
from dnstrail.protocol.facts import packed_fact
from dnstrail_cli.events.output import open_output, parse_output
from dnstrail_cli.pipeline.options import MEMORY
from live.ports import free_port
from live.processes import dnstrail, run_dir, started
from live.workers import asker, cache, open_bus, probe, short_folder, wait_until

FINDING = {"timestamp": 1, "eventName": "X", "processName": "a", "processId": 7, "args": [{"name": "b", "value": 1}]}
EXIT = SCHED_PROCESS_EXIT, Captured(1_000_000_000, process=Process(7, "true"))


def test_events_lost_on_the_way_to_the_output_are_in_the_stats():
    """Events that arrive are shown; the command reports lost ones to the cache, whose stats contain them."""
    shown: list[Event] = []
    with (
        short_folder() as folder,
        cache(folder) as lookups,
        open_bus() as bus,
        asker(lookups) as client,
    ):
        plan = Plan(folder, "ebpf", events=(SCHED_PROCESS_EXIT,))
        pipeline = Pipeline(plan, Children({}, MEMORY), bus, shown.append, SystemClock())
        with probe(folder, live=True, subscribers=2) as publishing:
            publishing.lose_turn()
            publishing.turn(EXIT)
            pipeline.work(threading.Event(), lambda: client.ask("stats")["data"]["lost"]["workers"] == {TURN: 1})
    assert [event.process_id for event in shown] == [7]


def test_events_are_shown_in_wall_time():
    """The last turn of the probe contains the difference to wall time, by which the times of its events are shown."""
    shown: list[Event] = []
    with short_folder() as folder, open_bus() as bus:
        view = EventView(folder, (SCHED_PROCESS_EXIT,), (), bus, shown.append, cache=False)
        with probe(folder, live=True) as publishing:
            publishing.turn(EXIT, difference=7)
            publishing.turn(EXIT)
            wait_until(lambda: view.take(SystemClock()) or len(shown) == 2)
        view.close()
    assert [event.timestamp - EXIT[1].timestamp for event in shown] == [0, 7]


def test_facts_come_beside_the_only_probe_that_is_followed():
    """The cache is no probe: a view that follows one probe alone shows its events, and the facts of the cache."""
    shown: list[Event] = []
    fact = packed_fact(1, None, None, [(1, 2), None, None, None, None, 0, None, "a.example", 1, 0, 0, 1, None, []])
    with short_folder() as folder, open_bus() as bus:
        publisher = bus.publisher(facts_address(lookups_address(folder)), lossless=False)
        facts = BatchPublisher(publisher, "cache", live=True)
        events = (DNS_TRANSACTION, SCHED_PROCESS_EXIT)
        view = EventView(folder, events, (), bus, shown.append, cache=True, take_findings=False, probes=1)

        def publish(*captured: Captured) -> None:
            for one in captured:
                facts.add(DNS_TRANSACTION, one, "web1", "s")
            facts.close_turn(1, Counter())
            facts.flush()
            view.take(SystemClock())

        wait_until(lambda: publish() or view.hears_facts)
        with probe(folder, live=True) as publishing:
            publishing.turn(EXIT)
            publish(packed_fact(1, None, None, []), fact)  # the first one is bad, and costs no other
            wait_until(lambda: view.take(SystemClock()) or (len(shown) == 2 and view.last is not None))
        assert view.last.start == publishing.start
        view.close()
    assert {(event.event_name, event.host_name) for event in shown} == {(EXIT[0], ""), (DNS_TRANSACTION, "web1")}
    assert "s/net_packet_dns/1/2/end" in {event.id for event in shown}


QUERY = dns.message.make_query("a.example", "A").to_wire()
ENDS = (bytes([192, 0, 2, 1]), 4000, bytes([192, 0, 2, 53]), 53)
MALFORMED = {
    "a source of three bytes": (NET_PACKET_DNS, Captured(1, QUERY, Flow(b"123", *ENDS[1:]))),
    "no destination": (NET_PACKET_DNS, Captured(1, QUERY, Flow(*ENDS[:2], b"", 53))),
    "an unknown transport": (NET_PACKET_DNS, Captured(1, QUERY, Flow(*ENDS, "sctp"))),
    "a connection from three bytes": (NET_TCP_CONNECT, Captured(1, b"", Flow(b"123", *ENDS[1:]), None, {"dst": "::1"})),
    "bytes as an argument": (SCHED_PROCESS_EXIT, Captured(1, args={"x": b"\xff"})),
    "a list as a client": (NET_TCP_CONNECT, Captured(1, args={"dst": "::1", "src": [1]})),
    "a list as a port": (NET_TCP_CONNECT, Captured(1, args={"dst": "::1", "src_port": [1]})),
}


@pytest.mark.parametrize("case", MALFORMED)
@pytest.mark.parametrize("form", ["json", "table", "table=all"])
def test_an_event_that_no_probe_sends_ends_no_output(case, form, capsys):
    """An event with values that no probe of ours sends is skipped, or shown as far as it can be; the next follows."""
    output = open_output(parse_output([form]), SystemClock())
    events = (NET_PACKET_DNS, NET_PACKET_DNS_REQUEST, NET_TCP_CONNECT, SCHED_PROCESS_EXIT)
    with short_folder() as folder, open_bus() as bus:
        view = EventView(folder, events, (), bus, output.emit, cache=False)
        with probe(folder, live=True, subscribers=1) as publishing:
            publishing.turn(MALFORMED[case])
            publishing.turn(EXIT)
            wait_until(lambda: view.take(SystemClock()) or (view.last is not None and view.last.turn >= 2))
        view.close()
    output.release(everything=True)
    assert "true" in capsys.readouterr().out


BAD = {
    "no MessagePack": b"\xc1",
    "no map": msgpack.packb([1]),
    "no name": msgpack.packb({}),
    "a name alone": msgpack.packb({"eventName": "X"}),
    "a time out of range": msgpack.packb({**FINDING, "timestamp": -1}),
    "a name that is a list": msgpack.packb({**FINDING, "eventName": ["X"]}),
    "arguments without names": msgpack.packb({**FINDING, "args": [1]}),
    "a finding that was not chosen": msgpack.packb({**FINDING, "eventName": "Y"}),
}


@pytest.mark.parametrize("case", BAD)
def test_a_message_that_is_no_finding_is_ignored(case):
    """A malformed message on the socket of the findings is ignored, and the next finding is shown."""
    shown: list[dict] = []
    with short_folder() as folder, open_bus() as bus:
        view = EventView(folder, (), ("X",), bus, shown.append, cache=False)
        pusher = bus.pusher(findings_address(folder))
        for body in (BAD[case], msgpack.packb(FINDING)):
            wait_until(lambda body=body: pusher.push(body))
        wait_until(lambda: view.take(SystemClock()) or shown)
        view.close()
    assert shown == [FINDING]


def test_metrics_of_all_workers():
    """A run with DNSTRAIL_METRICS serves the metrics of each of its workers, at ports in a row."""
    first = free_port("127.0.0.1", 4)
    pages: dict[str, str] = {}

    def read() -> bool:
        for number, worker in enumerate(("probe", "cache", "signatures", "findings")):
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{first + number}/metrics") as page:
                pages[worker] = page.read().decode()
        return len(pages) == 4

    with (
        run_dir() as folder,
        started(
            *("replay", "demo", "--speed", "0.02"),  # so that the probe runs for minutes
            *("--run-dir", folder, "--to", "syslog:udp://127.0.0.1:9"),
            DNSTRAIL_METRICS=str(first),
        ) as run,
    ):
        wait_until(read)
        assert run.poll() is None
    assert {worker for worker, page in pages.items() if f'worker="{worker}"' in page} == set(pages)


@pytest.mark.parametrize(("variable", "logged"), [({}, set()), ({"DNSTRAIL_LOG_LEVEL": "info"}, {"cache", "probe"})])
def test_workers_of_a_run_log_warnings(variable, logged):
    """The workers of an all-in-one run log no line below a warning, unless DNSTRAIL_LOG_LEVEL names another level."""
    with run_dir() as folder:
        done = dnstrail("--capture", "demo", "--output", "json", "--run-dir", folder, **variable)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert {line["worker"] for line in lines if line["event"] == "ready"} >= logged
    assert bool(lines) == bool(logged)
