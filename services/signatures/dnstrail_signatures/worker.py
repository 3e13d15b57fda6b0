"""The signature worker: takes events from the bus, runs signatures over them, sends their findings on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import msgpack
import structlog

from dnstrail.bus import Bus, Pusher, Subscriber
from dnstrail.client import DnsDataSource, lookups_after
from dnstrail.connection_names import ConnectionEnricher
from dnstrail.datasource import DataSources
from dnstrail.errors import BadMessage
from dnstrail.events import NAMES, Event
from dnstrail.protocol.batches import TURN, Batch, Turn, decode
from dnstrail.protocol.losses import LossReporter, worker_name
from dnstrail.protocol.turn_follower import TurnFollower
from dnstrail.signature import Finding, Signal, Signature
from dnstrail.tracee import finding_map
from dnstrail_signatures.coverage import Coverage
from dnstrail_signatures.engine import Engine

SOURCE_COMPLETE = "source_complete"
_POLL = 0.1  # seconds between looks at the stop signal
Deliver = Callable[[dict[str, Any]], None]


def topics_of(classes: Iterable[type[Signature]]) -> tuple[str, ...]:
    """What to subscribe to for these signatures: the events that they select, and the ends of turns."""
    selected = {selector.name for cls in classes for selector in cls.selected_events}
    return (*(name for name in NAMES if name in selected or selected & {"*", ""}), TURN)


def push_to(pusher: Pusher, stop: threading.Event) -> Deliver:
    """Deliver findings over the bus; a receiver that is behind is waited for, until the stop signal is set."""

    def deliver(message: dict[str, Any]) -> None:
        body = msgpack.packb(message)
        while not pusher.push(body, wait=_POLL):
            if stop.is_set():
                structlog.get_logger().warning("finding_lost", finding=message.get("eventName"))
                return

    return deliver


def run(
    bus: Bus,
    subscriber: Subscriber,
    classes: Iterable[type[Signature]],
    dns: DnsDataSource | None,
    deliver: Deliver,
    stop: threading.Event,
    *,
    settled: Callable[[], None] = lambda: None,
) -> None:
    """Run signatures over events until the stop signal is set; nothing that a signature does ends it.

    `settled` is called once all signatures have started: then privileges are no longer needed.
    """
    worker = _Worker(classes, dns, deliver)
    settled()
    log = structlog.get_logger()
    log.info("ready", signatures=[signature.metadata.id for signature in worker.engine.signatures])
    while not stop.is_set():
        bus.wait(subscriber, timeout=_POLL)
        while not stop.is_set() and (message := subscriber.receive()) is not None:
            worker.on_message(*message)
    worker.close()
    log.info("stopped", **worker.engine.counters, lost=dict(worker.turns.lost))


class _Worker:
    def __init__(self, classes: Iterable[type[Signature]], dns: DnsDataSource | None, deliver: Deliver) -> None:
        chosen = list(classes)
        sources = DataSources(*([dns] if dns else []))
        self.engine = Engine(chosen, sources, self._on_finding)
        self.turns = TurnFollower(tuple(topic for topic in topics_of(chosen) if topic != TURN))
        self.coverage = Coverage()
        self._names = ConnectionEnricher(dns)
        self._deliver = deliver
        report = partial(dns.client.report_losses, worker_name("signatures")) if dns else None
        self._losses = LossReporter(report) if report else LossReporter()
        self._completed: set[str] = set()

    def on_message(self, topic: str, body: bytes) -> None:
        """Take one message from the bus."""
        try:
            if topic == TURN:
                self._on_turn(decode(body, Turn))
            else:
                self._on_batch(topic, decode(body, Batch))
        except BadMessage as error:
            self.engine.counters["bad_bus_message"] += 1
            structlog.get_logger().warning("bad_bus_message", topic=topic, error=str(error))

    def close(self) -> None:
        """End the signatures, and tell what was missed last."""
        self.engine.close()
        self._losses.close(self.turns.lost)

    def _on_batch(self, topic: str, batch: Batch) -> None:
        self.turns.batch(topic, batch)
        self.coverage.batch(batch.start, len(batch.events), self.turns.missed(batch.start))
        mark = (batch.start, batch.turn)
        coverage = self.coverage.of(batch.start)
        events = [Event(topic, captured, mark, batch.host, coverage=coverage) for captured in batch.events]
        named = self._names.fill(events)
        with lookups_after(mark):
            for event in named:
                self.engine.on_event(event)

    def _on_turn(self, turn: Turn) -> None:
        self.turns.turn(turn)
        self.coverage.turn(turn, self.turns.missed(turn.start))
        self._losses.note(self.turns.lost, time.monotonic())
        if turn.ended and turn.start not in self._completed:
            self._completed.add(turn.start)
            with lookups_after((turn.start, turn.turn)):
                self.engine.on_signal(Signal(SOURCE_COMPLETE))
            self._deliver({"signal": SOURCE_COMPLETE, "start": turn.start, **self.engine.counters})

    def _on_finding(self, finding: Finding) -> None:
        self._deliver(finding_map(finding))
