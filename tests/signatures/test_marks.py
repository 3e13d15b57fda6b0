"""The lookups of a signature are bound to the event or the signal at hand."""

from __future__ import annotations

import threading

import msgpack
import pytest

from dnstrail.bus.ipc import events_address, lookups_address
from dnstrail.captured import Captured, Process
from dnstrail.client import DnsDataSource
from dnstrail.events import SCHED_PROCESS_EXIT
from dnstrail.signature import EventSelector, Signature, SignatureMetadata
from dnstrail_signatures.findings import Delivery
from dnstrail_signatures.loading.chosen import Chosen, topics_of
from dnstrail_signatures.worker import SignatureWorker, run
from live.workers import BOUND, answering, probe, running, short_folder, wait_until

RESULT = {"ip_addresses": [], "dns_queries": ["x"], "dns_root": "x"}


class Asking(Signature):
    """Looks up a name at each event and at each signal."""

    metadata = SignatureMetadata("A-1", "1", "Asking", "ASKED")
    selected_events = (EventSelector(name=SCHED_PROCESS_EXIT),)

    def on_event(self, event):
        self.ctx.get_data_source("tracee", "dns").get(event.process_name)

    def on_signal(self, signal):
        self.ctx.get_data_source("tracee", "dns").get(signal.name)


@pytest.fixture
def folder():
    with short_folder() as folder:
        yield folder


def test_a_signature_asks_after_its_event_and_after_its_signal(folder):
    """A lookup carries mark and owner of the event at hand; one at the end of a source carries its last turn."""
    marks, owners, subscribed = {}, {}, threading.Event()

    def answer(body):
        request = msgpack.unpackb(body)
        if request["op"] == "get":
            marks[request["key"]] = request["after"]
            owners[request["key"]] = request.get("owner")
        return msgpack.packb(
            {"v": 1, "ok": True, "data": RESULT if request["op"] == "get" else {"turns": {"start": 9}}}
        )

    def worker(bus, stop):
        dns = DnsDataSource(lookups_address(folder), bus=bus, timeout=BOUND)
        subscriber = bus.subscriber([events_address(folder)], topics_of([Asking]))
        subscribed.set()
        run(bus, SignatureWorker(subscriber, Chosen.of(Asking), Delivery(lambda _message: None), dns=dns), stop)

    def exited(name, cgroup=0):
        return SCHED_PROCESS_EXIT, Captured(1, process=Process(1, name, cgroup_id=cgroup))

    with answering(lookups_address(folder), answer), running(worker):
        assert subscribed.wait(BOUND)
        with probe(folder) as publishing:
            expected = {"first": [list(publishing.turn(exited("first", cgroup=7)))]}
            expected["second"] = [list(publishing.turn(exited("second")))]
            expected["source_complete"] = [list(publishing.turn(ended=True))]
            wait_until(lambda: len(marks) == 3, "the lookups")
    assert marks == expected
    assert owners == {"first": ["", 7], "second": None, "source_complete": None}
