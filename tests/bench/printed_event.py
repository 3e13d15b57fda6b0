"""The cost of an event as users read it: its JSON line, from the captured bytes on; and the line of a finding."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from baselines import parse_cost
from figures import Figure
from live_events import HOST, START, bodies, of_capture

from dnstrail.bus import ZmqBus
from dnstrail.captured import Captured
from dnstrail.events import NET_PACKET_DNS, Event
from dnstrail.process.terminal import json_line
from dnstrail.protocol.losses import LossReporter
from dnstrail.signature import EventSelector, Signature, SignatureMetadata
from dnstrail.tracee.event_shape import event_map
from dnstrail_findings.explainer import Explainer
from dnstrail_findings.targets import make_outputs, parse_target
from dnstrail_findings.worker import FindingsWorker
from dnstrail_signatures.findings import Delivery
from dnstrail_signatures.loading.chosen import Chosen
from dnstrail_signatures.worker import SignatureWorker
from live.processes import wait_until

_RUNS = 3
_PACK = msgspec.msgpack.Encoder().encode


class _Reporting(Signature):
    metadata = SignatureMetadata("B-3", "1", "Reporting", "REPORTED", "Reports each message.", {"Severity": 2})
    selected_events = (EventSelector(name=NET_PACKET_DNS),)

    def on_event(self, event: Event) -> None:
        """Report it."""
        self.report(event)


def measure(capture: str) -> Iterator[Figure]:
    """Measure the JSON lines of the messages of a capture."""
    captured = of_capture(capture)
    least = min(_cost([Event(NET_PACKET_DNS, one, (START, 0), HOST) for one in captured]) for _ in range(_RUNS))
    yield Figure("an event as a JSON line", least, "us")
    yield Figure("the same, of dnspython's time", least / parse_cost([one.payload for one in captured]))
    yield Figure("an event with a finding, written", min(_cost_of_findings(captured) for _ in range(_RUNS)), "us")


def _cost(events: list[Event]) -> float:
    began = time.thread_time()
    for event in events:
        json_line(event_map(event))
    return (time.thread_time() - began) / len(events) * 1e6


def _cost_of_findings(captured: list[Captured]) -> float:
    """Return the processor time (us) of an event from its batch to the line of its finding in a file, but the bus."""
    batches, bus = [*bodies(captured)], ZmqBus()
    with TemporaryDirectory(dir=Path.cwd()) as folder:
        [output] = outputs = make_outputs([parse_target(f"file:{folder}/findings.jsonl")])
        worker = FindingsWorker(outputs, Explainer(None), LossReporter())
        delivery = Delivery(lambda message: worker.on_finding(_PACK(message)))
        signatures = SignatureWorker(bus.subscriber([], [NET_PACKET_DNS]), Chosen.of(_Reporting), delivery)
        output.start()
        began = time.process_time()
        for body in batches:
            signatures.on_message(NET_PACKET_DNS, body, 0.0)
            wait_until(lambda: not output.waiting, "the lines")
        used = time.process_time() - began
        output.close()
        bus.close(now=True)
    assert output.counters["written"] == len(captured), output.counters
    return used / len(captured) * 1e6
