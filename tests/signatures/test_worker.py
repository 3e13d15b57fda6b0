"""The signature worker over real sockets: events in, findings out, losses to the cache.

Tests of dnstrail_signatures.assembly.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import replace
from itertools import count

import dns.message
import msgpack
import pytest
from msgspec import structs
from structlog.testing import capture_logs

from builders.facts import fact_of
from dnstrail.bus import RemoteHost
from dnstrail.bus.ipc import events_address, findings_address
from dnstrail.captured import LAST_TIME, Captured, Process
from dnstrail.client import DnsDataSource
from dnstrail.dns import decode
from dnstrail.events import (
    DNS_ANSWER_CONFLICT,
    DNS_TRANSACTION,
    FACT_NAMES,
    FINDINGS_LOST,
    NET_PACKET_DNS,
    NET_PACKET_DNS_REQUEST,
    NET_PACKET_DNS_RESPONSE,
    NET_TCP_CONNECT,
    PUBLISHED,
    SCHED_PROCESS_EXIT,
    SIGNATURE_ERRORS,
    SIGNATURE_MUTED,
)
from dnstrail.events import event as event_module
from dnstrail.process.config_file import ConfigFile
from dnstrail.protocol.batches import TURN, Batch, Turn, encode
from dnstrail.protocol.facts import FactFeed, packed_fact
from dnstrail.protocol.members import Faults
from dnstrail.signature import EventSelector, Signature, SignatureMetadata
from dnstrail.tracee import proto_dns
from dnstrail.tracee.proto_dns import proto_dns as shape
from dnstrail_signatures import assembly
from dnstrail_signatures import worker as worker_module
from dnstrail_signatures.assembly import Options, WorkerAssembly
from dnstrail_signatures.builtin.e2e_dns_data_source import E2eDnsDataSource
from dnstrail_signatures.cache import ConflictFeed
from dnstrail_signatures.engine.time_budget import OFFENCES, TimeBudget
from dnstrail_signatures.findings import Delivery, offer_to, push_to
from dnstrail_signatures.group.membership import ALONE
from dnstrail_signatures.group.ownership import Share
from dnstrail_signatures.group.share import GroupShare
from dnstrail_signatures.loading.chosen import Chosen, origins_of, topics_of
from dnstrail_signatures.loading.load import find, load
from dnstrail_signatures.worker import SOURCE_COMPLETE, SignatureWorker, run
from live.workers import (
    BOUND,
    Messages,
    asker,
    cache,
    open_bus,
    probe,
    response,
    running,
    seen,
    short_folder,
    wait_until,
)

GOOGLE = response("google.com", "google.com 60 A 192.0.2.1")
PING = Process(pid=4242, name="ping", path="/usr/bin/ping", parent_pid=4000, user_id=1000, container_id="c0ffee")


class Reporter(Signature):
    """Reports every process that ends."""

    metadata = SignatureMetadata(
        id="R-1",
        version="2",
        name="Reporter",
        event_name="REPORTED",
        description="It reports.",
        tags=("a",),
        properties={"Severity": 3},
    )
    selected_events = (EventSelector("tracee", SCHED_PROCESS_EXIT),)

    def on_event(self, event):
        self.report(event, path=event.executable.path, names=["x"], number=1, sure=True)


class Broken(Reporter):
    """Raises at every event and every signal."""

    metadata = SignatureMetadata("B-1", "1", "Broken", "BROKEN")

    def on_event(self, event):
        raise ValueError("on purpose")

    def on_signal(self, signal):
        raise ValueError("on purpose")


@pytest.fixture
def folder():
    with short_folder() as folder:
        yield folder


@pytest.fixture
def findings():
    return []


@contextmanager
def signatures(folder, findings, *classes, lookups=None, budget=None):
    """Yield a signature worker over classes, with its findings put into a list."""
    connected = threading.Event()

    def target(bus, stop):
        dns = DnsDataSource(lookups, bus=bus, timeout=BOUND) if lookups else None
        subscriber = bus.subscriber([events_address(folder)], topics_of(classes))
        connected.set()
        delivery = Delivery(findings.append)
        run(bus, SignatureWorker(subscriber, Chosen.of(*classes), delivery, dns=dns, budget=budget), stop)

    with running(target):
        assert connected.wait(BOUND)
        yield


def exited(process=PING):
    return SCHED_PROCESS_EXIT, Captured(5_000_000_000, process=process)


@pytest.mark.parametrize(
    ("selected", "topics"),
    [
        ([SCHED_PROCESS_EXIT], [SCHED_PROCESS_EXIT, TURN]),
        ([SCHED_PROCESS_EXIT, NET_PACKET_DNS], [NET_PACKET_DNS, SCHED_PROCESS_EXIT, TURN]),
        ([NET_PACKET_DNS_REQUEST], [NET_PACKET_DNS, TURN]),
        ([NET_PACKET_DNS_RESPONSE, NET_PACKET_DNS], [NET_PACKET_DNS, TURN]),
        (["REPORTED"], [TURN]),
        ([], [TURN]),
    ],
)
def test_the_selected_events_are_subscribed_to(selected, topics):
    """The worker subscribes to the events that its signatures select, and last to the ends of turns."""
    selecting = type("Selecting", (Signature,), {"selected_events": tuple(EventSelector(name=n) for n in selected)})
    assert topics_of([selecting]) == (*topics,)


OF_PROBES = tuple(name for name in PUBLISHED if name not in FACT_NAMES)


@pytest.mark.parametrize(
    ("selector", "topics"),
    [(EventSelector(), OF_PROBES), (EventSelector(source="*"), OF_PROBES), (EventSelector(source="falco"), ())],
    ids=["any event", "any source", "another source"],
)
def test_a_wildcard_subscribes_to_all_events_of_its_source(selector, topics):
    """A signature that selects any event receives all events but facts; one of another source receives none."""
    selecting = type("Selecting", (Signature,), {"selected_events": (selector,)})
    assert topics_of([selecting]) == (*topics, TURN)


ORIGINS_SELECTED = {
    "any": ([EventSelector(name=NET_PACKET_DNS)], {"host", "container"}),
    "one": ([EventSelector(name=NET_PACKET_DNS, origin="container")], {"container"}),
    "by two": ([EventSelector(name="*", origin=one) for one in ("host", "container")], {"host", "container"}),
    "of a derived event": ([EventSelector(name=NET_PACKET_DNS_REQUEST, origin="host")], {"host"}),
    "of another event": ([EventSelector(name=SCHED_PROCESS_EXIT)], set()),
    "of another source": ([EventSelector("falco", NET_PACKET_DNS)], set()),
}


@pytest.mark.parametrize(("selectors", "origins"), ORIGINS_SELECTED.values(), ids=ORIGINS_SELECTED)
def test_the_selected_origins_are_known_by_topic(selectors, origins):
    """The origins of a topic are those that some signature selects for it."""
    selecting = type("Selecting", (Signature,), {"selected_events": tuple(selectors)})
    assert origins_of([selecting], NET_PACKET_DNS) == origins


class InContainers(Reporter):
    """Reports the exits of processes in containers."""

    metadata = SignatureMetadata("C-9", "1", "In containers", "IN_CONTAINER")
    selected_events = (EventSelector(name=SCHED_PROCESS_EXIT, origin="container"),)


def test_events_of_another_origin_are_skipped_and_counted(folder, findings):
    """A worker passes on the events of the selected origin alone, and counts the others as skipped."""
    host, contained = Process(9, "ping"), Process(8, "ping", container_id="c1")
    with signatures(folder, findings, InContainers), probe(folder) as publishing:
        publishing.turn(exited(host), exited(contained), exited(host), ended=True)
        wait_until(lambda: any("signal" in finding for finding in findings))
    assert [finding["processId"] for finding in findings if "signal" not in finding] == [8]
    assert findings[-1]["skipped"] == 2


class Requests(Reporter):
    """Reports the names of all queries and responses, by tracee's derived events."""

    metadata = SignatureMetadata("Q-1", "1", "Requests", "ASKED")
    selected_events = (
        EventSelector("tracee", NET_PACKET_DNS_REQUEST),
        EventSelector("tracee", NET_PACKET_DNS_RESPONSE),
    )

    def on_event(self, event):
        if event.event_name == NET_PACKET_DNS_REQUEST:
            self.report(event, query=event.arg("dns_questions")[0]["query"])
        else:
            self.report(event, answers=[one["answer"] for one in event.arg("dns_response")[0]["dns_answer"]])


def test_a_signature_receives_derived_events(folder, findings):
    """A signature that selects requests or responses receives them for the DNS packets that are published."""
    query = dns.message.make_query("google.com", "A").to_wire()
    with signatures(folder, findings, Requests), probe(folder) as publishing:
        publishing.turn(seen(query, 3.0), seen(GOOGLE, 4.0), ended=True)
        wait_until(lambda: findings and "signal" in findings[-1])
    args = [{arg["name"]: arg["value"] for arg in finding["args"]} for finding in findings[:-1]]
    assert (args[0]["query"], args[1]["answers"]) == ("google.com", ["192.0.2.1"])
    assert [(one["triggeredBy"]["name"], one["triggeredBy"]["id"]) for one in args] == [
        (NET_PACKET_DNS_REQUEST, 2007),
        (NET_PACKET_DNS_RESPONSE, 2008),
    ]


def test_a_message_is_decoded_once_for_all_signatures(monkeypatch, findings):
    """The built-in signatures read question, answers and addresses of one response from one decoding of its bytes."""
    decoded = []
    monkeypatch.setattr(event_module, "decode", lambda payload: decoded.append(payload) or decode(payload))
    worker = SignatureWorker(Messages(), Chosen.of(*load(find())), Delivery(findings.append))
    worker.on_message(NET_PACKET_DNS, encode(Batch("start", 1, 0, [seen(GOOGLE)])), 0.0)
    assert worker.engine.counters["events"] == 1
    assert decoded == [GOOGLE]


def test_a_message_is_shaped_once_for_all_its_findings(monkeypatch, findings):
    """Two findings on a packet, and one on the request that is derived from it, show one reading of its message."""
    shaped = []
    monkeypatch.setattr(proto_dns, "proto_dns", lambda wire: shaped.append(wire) or shape(wire))
    other = type("Other", (Reporter,), {"metadata": replace(Reporter.metadata, id="R-2", event_name="OTHER")})
    classes = [Reporter, other, Requests]
    for cls in classes[:2]:
        monkeypatch.setattr(cls, "selected_events", (EventSelector(name=NET_PACKET_DNS),))
    worker = SignatureWorker(Messages(), Chosen.of(*classes), Delivery(findings.append))
    query = dns.message.make_query("shaped.example", "A").to_wire()
    worker.on_message(NET_PACKET_DNS, encode(Batch("start", 1, 0, [seen(query)])), 0.0)
    assert {finding["eventName"] for finding in findings} == {"REPORTED", "OTHER", "ASKED"}
    assert shaped == [query]


def test_a_wildcard_selects_no_derived_events(folder, findings):
    """A signature that selects any event receives each DNS packet once, not its derived event too."""

    class Everything(Reporter):
        selected_events = (EventSelector(),)

        def on_event(self, event):
            if event.event_name != self.metadata.event_name:
                self.report(event, name=event.event_name)

    with signatures(folder, findings, Everything), probe(folder) as publishing:
        publishing.turn(seen(GOOGLE, 4.0), ended=True)
        wait_until(lambda: findings and "signal" in findings[-1])
    assert [finding["args"][0]["value"] for finding in findings[:-1]] == [NET_PACKET_DNS]


def test_each_signature_has_an_event_id_of_its_own(folder, findings):
    """Findings have the id of their signature's event, the same in each worker that loads the same signatures."""
    with signatures(folder, findings, Connections, Reporter, E2eDnsDataSource), probe(folder) as publishing:
        publishing.turn(exited(), connected("192.0.2.1"))
        wait_until(lambda: len(findings) == 2)
    assert {finding["eventName"]: finding["eventId"] for finding in findings} == {
        "CONNECTED": "6100",
        "REPORTED": "6101",
    }


def test_a_finding_has_tracees_shape(folder, findings):
    """A finding is an event with its data as typed arguments, its cause's process, and the signature's metadata."""
    with signatures(folder, findings, Reporter), probe(folder) as publishing:
        publishing.turn(exited())
        wait_until(lambda: findings)
    (finding,) = findings
    expected = {
        "timestamp": 5_000_000_000,
        "processId": 4242,
        "parentProcessId": 4000,
        "userId": 1000,
        "processName": "ping",
        "executable": {"path": "/usr/bin/ping"},
        "containerId": "c0ffee",
        "eventName": "REPORTED",
        "argsNum": len(finding["args"]),
        "metadata": {
            "Version": "2",
            "Description": "It reports.",
            "Tags": ["a"],
            "Properties": {"Severity": 3, "signatureID": "R-1", "signatureName": "Reporter"},
        },
    }
    assert {name: finding[name] for name in expected} == expected
    assert [(arg["name"], arg["type"], arg["value"]) for arg in finding["args"][:4]] == [
        ("path", "const char *", "/usr/bin/ping"),
        ("names", "unknown", ["x"]),
        ("number", "int", 1),
        ("sure", "bool", True),
    ]


def test_a_finding_is_shown_in_wall_time(folder, findings):
    """A finding has the wall time of its event: the difference in the last turn of the probe is added."""
    with signatures(folder, findings, Reporter), probe(folder) as publishing:
        publishing.turn(difference=7)
        publishing.turn(exited())
        wait_until(lambda: findings)
    assert findings[0]["timestamp"] == 5_000_000_007


def test_findings_cross_the_bus(folder):
    """Findings that are pushed arrive as MessagePack maps."""
    with open_bus() as bus:
        puller = bus.puller(findings_address(folder))
        deliver = push_to(bus.pusher(findings_address(folder)), threading.Event())
        deliver({"eventName": "X", "args": []})
        bus.wait(puller, timeout=BOUND)
        assert msgpack.unpackb(puller.receive()) == {"eventName": "X", "args": []}


def test_an_undelivered_finding_is_counted_at_the_stop(folder):
    """The worker waits for a slow receiver; after the stop signal the finding is logged and counted as lost."""
    stop = threading.Event()
    stop.set()
    with open_bus() as bus, capture_logs() as logs:
        pusher = bus.pusher(findings_address(folder))
        while pusher.push(b"full"):
            pass
        delivery = Delivery(push_to(pusher, stop))
        delivery.send({"eventName": "X"}, live=False)
        pusher.socket.linger = 0
    assert delivery.undelivered == 1
    assert logs == [{"event": "finding_lost", "finding": "X", "log_level": "warning"}]


@pytest.mark.parametrize("live", [True, False])
def test_a_live_finding_never_waits_for_its_receiver(findings, live):
    """A live source offers a finding once, and counts it if there is no room; a file waits for its receiver."""
    worker = SignatureWorker(Messages(), Chosen.of(Reporter), Delivery(findings.append, lambda _: False))
    worker.on_message(TURN, encode(Turn("s", 0, {}, live, 0)), 1.0)
    worker.on_message(SCHED_PROCESS_EXIT, encode(Batch("s", 1, 0, [exited()[1]] * 3)), 1.0)
    assert (worker.delivery.undelivered, len(findings)) == ((3, 0) if live else (0, 3))
    assert worker._all_losses().get(FINDINGS_LOST, 0) == (3 if live else 0)


@pytest.mark.parametrize("live", [True, False])
def test_the_end_of_a_live_source_never_waits_for_the_receiver(findings, live):
    """The signal at the end of a live source is offered once, and is no lost finding; that of a file is delivered."""
    worker = SignatureWorker(Messages(), Chosen.of(Reporter), Delivery(findings.append, lambda _: False))
    worker.on_message(TURN, encode(Turn("s", 0, {}, live, 0, ended=True)), 1.0)
    assert (worker.delivery.undelivered, len(findings)) == ((0, 0) if live else (0, 1))


def test_the_end_of_a_file_does_not_hold_up_a_live_source(findings):
    """While a probe is live, the signal at the end of another one does not wait for the receiver either."""
    worker = SignatureWorker(Messages(), Chosen.of(Reporter), Delivery(findings.append, lambda _: False))
    worker.on_message(TURN, encode(Turn("live", 0, {}, True, 0)), 1.0)
    worker.on_message(TURN, encode(Turn("file", 0, {}, False, 0, ended=True)), 1.0)
    assert findings == []


def test_an_offer_to_a_full_receiver_is_refused_at_once(folder):
    """Without a receiver the queue of the bus takes some findings, and then refuses further ones."""
    with open_bus() as bus:
        pusher = bus.pusher(findings_address(folder))
        offer = offer_to(pusher)
        assert sum(offer({"eventName": "X"}) for _ in range(2000)) < 2000
        pusher.socket.linger = 0


def test_the_end_of_the_source_is_signalled_once(folder, findings):
    """When a probe ends, signatures receive a signal and the sink a message with the counters, once for each start."""
    with capture_logs() as logs, signatures(folder, findings, Broken, Reporter):
        for start in ("one", "two"):
            with probe(folder, start) as publishing:
                publishing.turn(exited(), ended=True)
                publishing.turn(ended=True)
                wait_until(lambda start=start: findings and findings[-1].get("start") == start)
    signals = [message for message in findings if "signal" in message]
    assert [(message["signal"], message["start"]) for message in signals] == [
        (SOURCE_COMPLETE, "one"),
        (SOURCE_COMPLETE, "two"),
    ]
    assert [message["errors"] for message in signals] == [2, 4]
    [stopped] = [entry for entry in logs if entry["event"] == "stopped"]
    assert stopped["errors_by_signature"] == {"BROKEN": 4}
    assert [message.get("eventName", "end") for message in findings] == ["REPORTED", "end", "REPORTED", "end"]


def test_the_ended_starts_that_are_remembered_are_bounded(findings):
    """A repeated end is signalled once, until so many other starts were heard that the start gave way."""
    worker = SignatureWorker(Messages(), Chosen.of(), Delivery(findings.append), probes=3)
    for start in ("first", "first", *map(str, range(3)), "first"):
        worker.on_message(TURN, encode(Turn(start, 0, {}, False, 0, ended=True)), 1.0)
    assert [message["start"] for message in findings].count("first") == 2
    assert len(findings) == 3 + 2


def test_events_of_another_host_are_those_of_its_key(findings):
    """A finding has the host and the mark of the key that published its event. A refused turn changes nothing."""
    marks = []

    class Marked(Reporter):
        def on_event(self, event):
            marks.append(event.mark)
            super().on_event(event)

    messages = Messages()
    messages.publisher = RemoteHost("aa", "alpha")
    worker = SignatureWorker(messages, Chosen.of(Marked), Delivery(findings.append))
    batch = Batch("s", 1, 0, [Captured(5, process=PING)], {}, "victim")
    messages.waiting += [
        (TURN, encode(Turn("s", 0, {}, True, 0, host="victim"))),
        (SCHED_PROCESS_EXIT, encode(batch)),
        (TURN, encode(Turn("s", 1, {}, True, 1 << 61, host="victim"))),
    ]
    while worker.take_message():
        pass
    assert ([found["hostName"] for found in findings], marks) == (["alpha"], [("aa.s", 1)])
    assert worker.turns.last("aa.s").turn == 0
    assert (worker.engine.counters["remote_refused"], worker.engine.counters["bad_bus_message"]) == (1, 0)


class Endless:
    """Messages of a probe that never cease until `most` were received, and then set the stop signal.

    The first one requests a reload.
    """

    publisher = None

    def __init__(self, most, stop, reload):
        self.received = 0
        self._most = most
        self._stop = stop
        self._reload = reload

    def receive(self):
        self.received += 1
        if self.received == 1:
            self._reload.set()
        elif self.received == self._most:
            self._stop.set()
        return TURN, encode(Turn("s", self.received, {}, True, 0))

    def subscribe(self, topic, start=""):
        pass


class Looks:
    """A feed of conflicts in which none arrives; it notes how many messages had been received at each look."""

    def __init__(self, messages):
        self.at = []
        self.subscriber = self
        self._messages = messages

    def receive(self):
        self.at.append(self._messages.received)


class NoBus:
    """A bus whose ends always have a message."""

    def wait(self, *ends, timeout):
        pass


def test_messages_that_never_cease_keep_nothing_waiting(monkeypatch, findings):
    """Conflicts are looked for, and a reload begins, while messages of the probes wait; the worker is not idle."""
    monkeypatch.setattr(worker_module, "_LONGEST", 0.0)
    stop, reload = threading.Event(), threading.Event()
    messages = Endless(10, stop, reload)
    conflicts = Looks(messages)
    worker = SignatureWorker(messages, Chosen.of(), Delivery(findings.append), conflicts=conflicts)
    idle = []
    monkeypatch.setattr(worker, "on_idle", idle.append)
    run(NoBus(), worker, stop, (reload, Chosen.of))
    assert conflicts.at == [*range(1, 11)]
    assert not reload.is_set()
    assert idle == []


def test_conflicts_that_never_cease_keep_nothing_waiting(monkeypatch, findings):
    """Conflicts are handled for a bounded time, and the others after the next messages of the probes."""
    monkeypatch.setattr(worker_module, "_LONGEST", 0.0)
    conflicts = Messages()
    conflicts.waiting += [(DNS_ANSWER_CONFLICT, encode(Batch("s", 0, number, []))) for number in range(3)]
    feed = ConflictFeed(NoBus(), conflicts, None)
    worker = SignatureWorker(Messages(), Chosen.of(), Delivery(findings.append), conflicts=feed)
    worker.take_of_cache()
    assert len(conflicts.waiting) == 2


def test_bad_bus_messages_are_counted_and_logged(folder, findings):
    """A message that is no batch or turn is counted and logged, and the next event is handled."""
    with capture_logs() as logs, signatures(folder, findings, Reporter), probe(folder) as publishing:
        for topic in (SCHED_PROCESS_EXIT, TURN):
            for body in (b"", b"\xc1", b"\x01", msgpack.packb(["s", 1])):
                assert publishing.publisher.publish(topic, body)
        publishing.turn(exited(), ended=True)
        wait_until(lambda: len(findings) == 2)
    assert findings[1]["bad_bus_message"] == 8
    assert sum(entry["event"] == "bad_bus_message" for entry in logs) == 8


def test_lost_events_are_counted(folder, findings):
    """Events that were lost on the way are in the last log line of the worker."""
    with capture_logs() as logs, signatures(folder, findings, Reporter), probe(folder) as publishing:
        publishing.lose_turn()
        publishing.turn(exited())
        wait_until(lambda: findings)
        publishing.turn(ended=True)
        wait_until(lambda: len(findings) == 2)
    (stopped,) = [entry for entry in logs if entry["event"] == "stopped"]
    assert stopped["lost"] == {TURN: 1}


def test_lost_events_are_in_the_stats_of_the_cache(folder, findings):
    """A signature worker reports its losses to the cache, which adds them to its stats."""
    with (
        cache(folder) as lookups,
        signatures(folder, findings, Reporter, lookups=lookups),
        probe(folder, subscribers=2) as publishing,
        asker(lookups) as client,
    ):
        publishing.lose_turn()
        publishing.turn(exited())
        wait_until(lambda: client.ask("stats")["data"]["lost"]["workers"] == {TURN: 1})
        assert client.ask("stats")["data"]["lost"]["total"] == 0


def test_errors_of_signatures_are_in_the_stats_of_the_cache(folder, findings):
    """Events that a signature failed to handle are reported to the cache, and are in its stats."""
    with (
        cache(folder) as lookups,
        signatures(folder, findings, Broken, lookups=lookups),
        probe(folder, subscribers=2) as publishing,
        asker(lookups) as client,
        capture_logs(),
    ):
        publishing.turn(exited())
        wait_until(lambda: client.ask("stats")["data"]["lost"]["workers"] == {SIGNATURE_ERRORS: 1})


def test_events_that_a_muted_signature_misses_are_in_the_stats_of_the_cache(folder, findings):
    """Events that a muted signature did not receive are reported to the cache, and are in its stats."""
    budget = TimeBudget(0.5, count().__next__, lambda: 0.0)  # each look at this clock takes a second
    with (
        cache(folder) as lookups,
        signatures(folder, findings, Reporter, lookups=lookups, budget=budget),
        probe(folder, subscribers=2) as publishing,
        asker(lookups) as client,
        capture_logs(),
    ):
        publishing.turn(*[exited()] * (OFFENCES + 3))
        wait_until(lambda: client.ask("stats")["data"]["lost"]["workers"] == {SIGNATURE_MUTED: 3})


@pytest.mark.parametrize("first", ["the exit", "the answer"])
def test_a_ping_is_found_if_all_events_share_one_turn(folder, findings, first):
    """With a real cache, the ping is found even if its exit and the DNS answer travel in one turn."""
    events = [exited(), seen(GOOGLE, 4.0)]
    with (
        cache(folder) as lookups,
        signatures(folder, findings, E2eDnsDataSource, lookups=lookups),
        probe(folder, subscribers=2) as publishing,
    ):
        publishing.turn(*(events if first == "the exit" else reversed(events)), ended=True)
        wait_until(lambda: findings and "signal" in findings[-1])
    assert [message.get("eventName") for message in findings] == ["DNS_DATA_SOURCE", None]
    assert findings[1].get("errors", 0) == 0


def test_a_lookup_never_answers_from_before_its_event(folder, findings):
    """In many turns with an answer and an exit whose signature asks for it at once, no lookup misses the answer."""

    class Asks(Signature):
        metadata = SignatureMetadata("A-1", "1", "Asks", "ASKED")
        selected_events = (EventSelector(name=SCHED_PROCESS_EXIT),)

        def on_event(self, event):
            dns = self.ctx.get_data_source("tracee", "dns")
            self.report(event, found=dns.get(event.process_name)["dns_root"])

    names = [f"n{number}.com" for number in range(200)]
    with (
        cache(folder) as lookups,
        signatures(folder, findings, Asks, lookups=lookups),
        probe(folder, subscribers=2) as publishing,
    ):
        for name in names:
            publishing.turn(exited(Process(1, name)), seen(response(name, f"{name} 60 A 192.0.2.1"), 4.0))
        publishing.turn(ended=True)
        wait_until(lambda: findings and "signal" in findings[-1])
    assert [finding["args"][0]["value"] for finding in findings[:-1]] == names
    assert findings[-1].get("errors", 0) == 0


def test_a_lookup_waits_for_the_end_of_the_turn_of_its_event(folder, findings):
    """A lookup for an event is answered after the turn of this event has ended, even if the event came first."""
    with (
        cache(folder) as lookups,
        asker(lookups) as client,
        signatures(folder, findings, E2eDnsDataSource, lookups=lookups),
        probe(folder, subscribers=2) as publishing,
    ):
        (start, turn), publish = publishing.next_mark, publishing.publisher.publish
        _, ended = exited()
        assert publish(SCHED_PROCESS_EXIT, encode(Batch(start, turn, 0, [ended])))
        wait_until(lambda: client.ask("stats")["data"]["cache"].get("parked"))
        assert publish(NET_PACKET_DNS, encode(Batch(start, turn, 0, [seen(GOOGLE, 4.0)])))
        assert publish(TURN, encode(Turn(start, turn, {SCHED_PROCESS_EXIT: 0, NET_PACKET_DNS: 0}, False, 0)))
        wait_until(lambda: findings)
    assert [message.get("eventName") for message in findings] == ["DNS_DATA_SOURCE"]


def test_a_late_signature_asks_as_of_its_event(folder, findings):
    """A lookup of a signature answers as of its event, however late the worker is; `at` selects another time."""

    class Asks(Signature):
        metadata = SignatureMetadata("A-1", "1", "Asks", "ASKED")
        selected_events = (EventSelector(name=SCHED_PROCESS_EXIT),)

        def on_event(self, event):
            dns = self.ctx.get_data_source("tracee", "dns")
            [many] = dns.get_many(["192.0.2.1"])
            self.report(event, found=[dns.get("192.0.2.1")["dns_root"], many["dns_root"], *self.later(dns)])

        @staticmethod
        def later(dns):
            return [dns.get("192.0.2.1", at=9.0)["dns_root"]]

    answers = [seen(response(name, f"{name} 60 A 192.0.2.1"), at) for name, at in (("a.com", 4.0), ("b.com", 6.0))]
    with (
        cache(folder) as lookups,
        signatures(folder, findings, Asks, lookups=lookups),
        probe(folder, subscribers=2) as publishing,
    ):
        publishing.turn(*answers, exited(), ended=True)
        wait_until(lambda: findings and "signal" in findings[-1])
    assert findings[0]["args"][0]["value"] == ["a.com", "a.com", "b.com"]


class Clock(Reporter):
    """Keeps the times that it is given."""

    def init(self, ctx):
        super().init(ctx)
        self.times = []

    def on_time(self, start, now):
        self.times.append((start, now))


def test_signatures_are_given_the_time_of_each_probe():
    """Each turn passes the clock of its probe on; a live probe that vanishes goes on by the clock of the worker."""
    worker = SignatureWorker(Messages(), Chosen.of(Clock), Delivery(print))
    [signature] = worker.engine.signatures
    for start, live in (("s", True), ("file", False)):
        worker.on_message(TURN, encode(Turn(start, 0, {}, live, 7 * 10**9)), 100.0)
    assert signature.times == [("s", 7 * 10**9), ("file", 7 * 10**9)]
    worker.on_idle(103.0)
    assert len(signature.times) == 2
    worker.on_idle(105.0)
    assert signature.times[2:] == [("s", 12 * 10**9)]
    worker.on_message(TURN, encode(Turn("s", 1, {}, True, 13 * 10**9, ended=True)), 106.0)
    worker.on_idle(120.0)
    assert signature.times[3:] == [("s", LAST_TIME)]


def test_without_a_cache_a_lookup_is_given_up(folder, findings):
    """An event whose lookup nobody answers is counted as given up; another signature reports."""

    def target(bus, stop):
        dns = DnsDataSource(f"ipc://{folder}/nobody.sock", bus=bus, timeout=0.05)
        subscriber = bus.subscriber([events_address(folder)], (SCHED_PROCESS_EXIT, TURN))
        chosen = Chosen.of(E2eDnsDataSource, Reporter)
        run(bus, SignatureWorker(subscriber, chosen, Delivery(findings.append), dns=dns), stop)

    with running(target), probe(folder) as publishing:
        publishing.turn(exited(), ended=True)
        wait_until(lambda: findings and "signal" in findings[-1])
    assert [message.get("eventName") for message in findings] == ["REPORTED", None]
    assert findings[-1]["unavailable"] == 1


class Connections(Reporter):
    """Reports the names behind every connection."""

    metadata = SignatureMetadata("C-1", "1", "Connections", "CONNECTED")
    selected_events = (EventSelector("tracee", NET_TCP_CONNECT),)

    def on_event(self, event):
        self.report(event, names=event.arg("dst_dns"))


def connected(address):
    return NET_TCP_CONNECT, Captured(5_000_000_000, process=PING, args={"dst": address, "dst_port": 443})


def test_connections_have_the_names_behind_them(folder, findings):
    """A signature receives connections with the names that the cache holds for their addresses, [] if none."""
    with (
        cache(folder) as address,
        signatures(folder, findings, Connections, lookups=address),
        probe(folder, subscribers=2) as publishing,
    ):
        publishing.turn(seen(GOOGLE, 4), connected("192.0.2.1"), connected("198.51.100.1"))
        wait_until(lambda: len(findings) >= 2)
    names = [{arg["name"]: arg["value"] for arg in found["args"]}["names"] for found in findings]
    assert names == [["google.com"], []]


class Reports:
    """A membership that handles everything, and keeps what the worker reports."""

    waits, worker = False, "me"

    def __init__(self):
        self.work = None

    def receive(self, start, turn, now):
        pass

    def handle(self, turn):
        pass

    def shares(self, start, turn):
        return [Share("me", ("me",))]

    def since(self, start, turn, actor):
        return 7

    def step(self, now, work):
        self.work = work()


def test_the_faults_of_each_signature_are_reported_to_the_group():
    """The cache receives errors, events over the budget and missed events by signature, and the events handled."""
    seconds, reports, found = count(step=1), Reports(), []
    budget = TimeBudget(0.5, processor=lambda: next(seconds), monotonic=lambda: 0.0)
    chosen, share = Chosen.of(Broken, Reporter), GroupShare(reports)
    worker = SignatureWorker(Messages(), chosen, Delivery(found.append), budget=budget, share=share)
    events = [exited()[1]] * (OFFENCES + 2)
    worker.on_message(SCHED_PROCESS_EXIT, encode(Batch("s", 0, 0, events)), 0.0)
    worker.on_idle(0.0)
    assert reports.work.handled == OFFENCES + 2
    faults = Faults(errors=OFFENCES, over_budget=OFFENCES, muted=2)
    assert reports.work.signatures == {"BROKEN": faults, "REPORTED": Faults(0, OFFENCES, 2)}
    assert {finding["since"] for finding in found} == {7}
    assert len({finding["findingId"] for finding in found}) == OFFENCES


class OfFacts(Reporter):
    """Selects transactions."""

    selected_events = (EventSelector("tracee", DNS_TRANSACTION),)

    def on_event(self, event):
        self.report(event, fact=event.id)


def test_a_fact_that_comes_again_leads_to_the_same_finding():
    """A cache that was killed publishes its last facts again: their findings have the ids that they had."""
    delivered, fact = [], fact_of()
    packed = [packed_fact(1, fact.flow, None, fact.values)]
    with short_folder() as folder, open_bus() as bus:
        feed = FactFeed(bus, f"ipc://{folder}/lookups.sock")
        worker = SignatureWorker(Messages(), Chosen.of(OfFacts), Delivery(delivered.append), facts=feed)
        for cache in ("before", "after"):
            worker.on_message(DNS_TRANSACTION, encode(Batch(cache, 0, 0, packed, probe="s")), 5.0, feed)
    assert len(delivered) == 2
    assert len({one["findingId"] for one in delivered}) == 1


def test_a_bad_fact_costs_no_other():
    """A fact that no cache sends is counted, and the others of its batch are handled."""
    delivered, good = [], fact_of()
    whole, short = good.values, structs.replace(good.values, id=(0, 1))
    facts = [packed_fact(1, good.flow, None, values) for values in (whole, [], short)]
    with short_folder() as folder, open_bus() as bus, capture_logs() as logs:
        feed = FactFeed(bus, f"ipc://{folder}/lookups.sock")
        worker = SignatureWorker(Messages(), Chosen.of(OfFacts), Delivery(delivered.append), facts=feed)
        worker.on_message(DNS_TRANSACTION, encode(Batch("c", 0, 0, facts, probe="s")), 5.0, feed)
    assert (len(delivered), worker.engine.counters["bad_bus_message"], feed.published) == (2, 1, 3)
    assert sum(entry["event"] == "bad_bus_message" for entry in logs) == 1
    assert all(f"s/net_packet_dns/0/{place}/end" in str(finding) for place, finding in enumerate(delivered))


def options_of(folder, **stated):
    """Return the options of a worker in a folder of sockets."""
    known = {"cache": None, "no_cache": False, "cache_facts": None, "findings": None, "group": ALONE, "probes": 4}
    paths = {"signatures": (), "state": None, "mutes": None, "metrics": None, "user": None, "run_dir": folder}
    return Options(config=ConfigFile(), subscribe=(), select=(), budget=10.0, **(known | paths | stated))


def test_a_worker_that_hears_no_facts_says_so(monkeypatch):
    """A worker whose signatures select facts begins without the facts of a cache, but not without a warning."""
    monkeypatch.setattr(assembly, "_PATIENCE", 0.05)
    with short_folder() as folder, open_bus() as bus, capture_logs() as logs:
        made = WorkerAssembly(options_of(folder), bus, threading.Event(), lambda: None, Chosen.of(OfFacts))
        worker = made.worker()
        worker.close()
    assert [(line["event"], line["address"]) for line in logs if line["log_level"] == "warning"] == [
        ("facts_not_heard", f"ipc://{folder}/facts.sock")
    ]


def test_a_worker_that_joins_while_facts_arrive_hears_their_turn():
    """A fact before the first turn waits for the members of the group, which the worker asks for before it is ready."""
    with short_folder() as folder, cache(folder), open_bus() as bus, capture_logs() as logs:
        address = f"ipc://{folder}/published.sock"

        def publish(own, stop):
            publisher = own.publisher(address, lossless=True)
            wait_until(lambda: all(map(publisher.subscribers, (DNS_TRANSACTION, TURN))), "a subscription")
            fact = fact_of()
            facts = [packed_fact(1, fact.flow, None, fact.values)]
            publisher.publish(DNS_TRANSACTION, encode(Batch("cache", 0, 0, facts, probe="s")))
            publisher.publish(TURN, encode(Turn("cache", 0, {DNS_TRANSACTION: 0}, live=True, now=1)))
            stop.wait(BOUND)

        with running(publish):
            options = options_of(folder, cache_facts=address, group="default")
            worker = WorkerAssembly(options, bus, threading.Event(), lambda: None, Chosen.of(OfFacts)).worker()
            assert worker.facts_heard is not None
            worker.close()
    assert not any(line["event"] == "facts_not_heard" for line in logs)
