"""The signature worker: receives events from the bus, runs signatures over them, delivers their findings."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, cast

import msgpack
import structlog

from dnstrail.bus import Bus, Pusher, Subscriber
from dnstrail.client import DnsDataSource, lookups_after
from dnstrail.connection_names import ConnectionEnricher
from dnstrail.datasource import DataSources
from dnstrail.errors import BadMessage
from dnstrail.events import (
    DERIVED,
    NAMES,
    NET_PACKET_DNS,
    ORIGINS,
    PUBLISHED,
    SIGNATURE_ERRORS,
    SIGNATURE_MUTED,
    SOURCE,
    Event,
)
from dnstrail.events import topics_of as topics_of_events
from dnstrail.protocol.batches import TURN, Batch, Turn, decode
from dnstrail.protocol.event_table import ReceivedEvents
from dnstrail.protocol.listener import Listener
from dnstrail.protocol.losses import LossReporter, worker_name
from dnstrail.protocol.turn_follower import TurnFollower
from dnstrail.signature import ANY, Finding, Signal, Signature
from dnstrail.tracee import derived_events, finding_map, signature_ids
from dnstrail_signatures.coverage import Coverage
from dnstrail_signatures.engine import Engine
from dnstrail_signatures.time_budget import TimeBudget

SOURCE_COMPLETE = "source_complete"
_POLL = 0.1  # seconds between two checks of the stop signal
Deliver = Callable[[dict[str, Any]], None]


def topics_of(classes: Iterable[type[Signature]]) -> tuple[str, ...]:
    """Return the topics that these signatures need: those of the events that they select, and the ends of turns."""
    return (*topics_of_events(_selected(classes)), TURN)


def _selected(classes: Iterable[type[Signature]]) -> set[str]:
    """Return the names of the events that some of these signatures select. A wildcard selects no derived event."""
    selectors = [selector for cls in classes for selector in cls.selected_events]
    selected = {selector.name for selector in selectors if selector.source in (*ANY, SOURCE)}
    wildcard = PUBLISHED if selected.intersection(ANY) else ()
    return selected.intersection(NAMES).union(wildcard)


def origins_of(classes: Iterable[type[Signature]], topic: str) -> frozenset[str]:
    """Return the origins of the events that some of these signatures select under a topic: "host", "container"."""
    names = {topic, *ANY, *(DERIVED if topic == NET_PACKET_DNS else ())}
    selectors = [selector for cls in classes for selector in cls.selected_events]
    chosen = {one.origin for one in selectors if one.source in (*ANY, SOURCE) and one.name in names}
    return frozenset(ORIGINS if chosen.intersection(ANY) else chosen)


def push_to(pusher: Pusher, stop: threading.Event, beat: Callable[[], None] = lambda: None) -> Deliver:
    """Return a function that delivers over the bus. It waits for a slow receiver until the stop signal is set."""

    def deliver(message: dict[str, Any]) -> None:
        body = msgpack.packb(message)
        while not pusher.push(body, wait=_POLL):
            if stop.is_set():
                structlog.get_logger().warning("finding_lost", finding=message.get("eventName"))
                return
            beat()

    return deliver


def run(
    bus: Bus,
    subscriber: Subscriber,
    classes: Iterable[type[Signature]],
    dns: DnsDataSource | None,
    deliver: Deliver,
    stop: threading.Event,
    *,
    ids: Mapping[str, int] | None = None,
    budget: TimeBudget | None = None,
    beat: Callable[[], None] = lambda: None,
    observe: Callable[[SignatureWorker], None] = lambda _: None,
) -> None:
    """Run signatures over events until the stop signal is set. No error of a signature ends the run.

    `ids` holds the event ids of all signatures that were loaded, whether or not this worker runs them; without it the
    signatures that run are numbered. `budget` bounds the time of each signature and event. `beat` is called while the
    loop runs, and `observe` once before it.
    """
    chosen = list(classes)
    ids = ids or signature_ids(cls.metadata.event_name for cls in chosen)
    worker = SignatureWorker(Listener(subscriber), chosen, dns, deliver, ids, budget or TimeBudget(), beat)
    observe(worker)
    log = structlog.get_logger()
    log.info("ready", signatures=[signature.metadata.id for signature in worker.engine.signatures])
    while not stop.is_set():
        beat()
        bus.wait(subscriber, timeout=_POLL)
        while not stop.is_set() and (message := subscriber.receive()) is not None:
            worker.on_message(*message)
        worker.on_idle(time.monotonic())
    worker.close()
    engine = worker.engine
    log.info(
        "stopped",
        **engine.counters,
        lost=dict(worker.turns.lost),
        errors_by_signature=dict(engine.errors),
        over_budget_by_signature=dict(engine.budget.exceeded),
        muted_by_signature=dict(engine.budget.missed),
    )


class SignatureWorker:
    """The state of one run: the engine, and what was received and lost on the way to it.

    `received` counts events by name. `heard` is the time of the last turn on the monotonic clock.
    """

    def __init__(
        self,
        listener: Listener,
        chosen: list[type[Signature]],
        dns: DnsDataSource | None,
        deliver: Deliver,
        ids: Mapping[str, int],
        budget: TimeBudget,
        beat: Callable[[], None],
    ) -> None:
        self._listener = listener
        sources = DataSources(*([dns] if dns else []))
        self.engine = Engine(chosen, sources, self._on_finding, budget)
        self.turns = TurnFollower(tuple(topic for topic in topics_of(chosen) if topic != TURN))
        self.coverage = Coverage()
        self.received: Counter[str] = Counter()
        self.heard: float | None = None
        self._names = ConnectionEnricher(dns)
        self._deliver = deliver
        self._beat = beat
        self._ids = ids
        self._derived = _selected(chosen).intersection(DERIVED)
        self._origins = {topic: origins_of(chosen, topic) for topic in topics_of(chosen)}
        report = partial(dns.client.report_losses, worker_name("signatures")) if dns else None
        self._losses = LossReporter(report) if report else LossReporter()
        self._completed: set[str] = set()

    def on_message(self, topic: str, body: bytes) -> None:
        """Handle one message from the bus."""
        self._beat()
        try:
            if topic == TURN:
                self._on_turn(decode(body, Turn))
            else:
                self._on_batch(topic, decode(body, Batch))
        except BadMessage as error:
            self.engine.counters["bad_bus_message"] += 1
            structlog.get_logger().warning("bad_bus_message", topic=topic, error=str(error))

    def on_idle(self, now: float) -> None:
        """Note that nothing waits to be received."""
        if self._listener.idle(now):
            self.engine.counters["reopened"] += 1

    def close(self) -> None:
        """Close the signatures, and report the last losses."""
        self.engine.close()
        self._losses.close(self._all_losses())

    def _on_batch(self, topic: str, batch: Batch) -> None:
        self.turns.batch(topic, batch)
        self.received[topic] += len(batch.events)
        self.coverage.batch(batch.start, len(batch.events), self.turns.missed(batch.start))
        mark = (batch.start, batch.turn)
        coverage = self.coverage.of(batch.start)
        received = cast("ReceivedEvents", batch.events)  # as `decode` makes it
        wanted = received.of_origin(self._origins.get(topic, frozenset()))
        if len(wanted) < len(received):
            self.engine.counters["skipped"] += len(received) - len(wanted)
        difference = self.turns.difference(batch.start)
        events = [
            Event(topic, captured, mark, batch.host, coverage=coverage, difference=difference) for captured in wanted
        ]
        named = self._names.fill(events)
        with lookups_after(mark):
            for event in named:
                self._beat()
                self.engine.on_event(event)
                for derived in derived_events(event, self._derived):
                    self.engine.on_event(derived)

    def _on_turn(self, turn: Turn) -> None:
        self.turns.turn(turn)
        self._listener.turn(turn)
        self.coverage.turn(turn, self.turns.missed(turn.start))
        self.heard = time.monotonic()
        self._losses.note(self._all_losses(), self.heard)
        if turn.ended and turn.start not in self._completed:
            self._completed.add(turn.start)
            with lookups_after((turn.start, turn.turn)):
                self.engine.on_signal(Signal(SOURCE_COMPLETE))
            self._deliver({"signal": SOURCE_COMPLETE, "start": turn.start, **self.engine.counters})

    def _all_losses(self) -> dict[str, int]:
        """Return the losses that the cache adds to its stats: events lost on the way, or by a signature."""
        of_signatures = {
            SIGNATURE_ERRORS: self.engine.counters["errors"],
            SIGNATURE_MUTED: self.engine.budget.missed.total(),
        }
        return {**self.turns.lost, **{reason: count for reason, count in of_signatures.items() if count}}

    def _on_finding(self, finding: Finding) -> None:
        self._deliver(finding_map(finding, self._ids))
