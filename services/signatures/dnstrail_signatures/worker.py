"""The signature worker: receives events from the bus, runs signatures over them, delivers their findings."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import cast

import structlog

from dnstrail.actor import actor_of
from dnstrail.bus import Bus, Subscriber
from dnstrail.captured import Captured
from dnstrail.client import DnsDataSource, lookups_after
from dnstrail.connection_names import ConnectionEnricher
from dnstrail.datasource import DataSources
from dnstrail.errors import BadMessage
from dnstrail.events import DERIVED, DNS_ANSWER_CONFLICT, Event
from dnstrail.protocol.batches import TURN, Batch, Turn, decode
from dnstrail.protocol.event_table import ActorFilter, ReceivedEvents
from dnstrail.protocol.listener import Listener
from dnstrail.protocol.losses import LossReporter, worker_name
from dnstrail.protocol.members import Work, faults
from dnstrail.protocol.turn_follower import TurnFollower
from dnstrail.signature import Finding, Signal, Signature
from dnstrail.tracee import derived_events, finding_map, signature_ids
from dnstrail_signatures.batch_events import events_of
from dnstrail_signatures.conflict_feed import ConflictFeed
from dnstrail_signatures.coverage import Coverage
from dnstrail_signatures.delivery import Deliver, Offer
from dnstrail_signatures.engine import Engine
from dnstrail_signatures.handover import Moved, ShareOfHost
from dnstrail_signatures.join import Rejoin, group_name
from dnstrail_signatures.membership import Membership
from dnstrail_signatures.missed_turns import MissedTurns, Replays
from dnstrail_signatures.ownership import Owners
from dnstrail_signatures.recent import Received, RecentBatches
from dnstrail_signatures.reload import Reload, Reloaded, Reloader
from dnstrail_signatures.selected_events import origins_of, selected_names, subscribe_instead, topics_of
from dnstrail_signatures.signature_settings import Settings
from dnstrail_signatures.time_budget import TimeBudget
from dnstrail_signatures.worker_losses import all_losses

SOURCE_COMPLETE = "source_complete"
_POLL = 0.1  # seconds between two checks of the stop signal
_GATHER = 0.09  # seconds for which messages gather: to wake up for each of them costs more than to handle them
_SOON = 0.005  # seconds between two looks for the reply of the cache that the events wait for


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
    settings: Settings | None = None,
    membership: Membership | None = None,
    rejoin: Rejoin | None = None,
    reload: Reload | None = None,
    conflicts: ConflictFeed | None = None,
    beat: Callable[[], None] = lambda: None,
    observe: Callable[[SignatureWorker], None] = lambda _: None,
    offer: Offer | None = None,
    replays: Replays | None = None,
) -> None:
    """Run signatures over events until the stop signal is set. No error of a signature ends the run.

    `ids` holds the event ids of all signatures that were loaded, whether or not this worker runs them; without it the
    signatures that run are numbered. `budget` bounds the time of each signature and event, and `settings` are those of
    the signatures. `membership` is the group with which the worker shares the events; None: it handles all of them.
    `rejoin` joins the group of other signatures. `reload` is the signal to reload, and chooses the signatures anew.
    `conflicts` are the events of the cache. `beat` is called while the loop runs, and `observe` once before it.
    `offer` delivers the findings of a live source, which never wait for their receiver. `replays` are the probes, which
    replay what departed members of the group did not handle.
    """
    chosen = list(classes)
    ids = ids or signature_ids(cls.metadata.event_name for cls in chosen)
    worker = SignatureWorker(
        Listener(subscriber),
        chosen,
        dns,
        deliver,
        ids,
        budget or TimeBudget(),
        membership,
        beat,
        settings,
        conflicts,
        offer,
        replays,
    )
    observe(worker)
    log = structlog.get_logger()
    log.info("ready", signatures=[signature.metadata.id for signature in worker.engine.signatures])
    reloader = None if reload is None else Reloader(*reload, worker.engine)
    while not stop.is_set():
        beat()
        if reloader is not None and (reloaded := reloader.step()) is not None:
            worker.adopt(reloaded, subscriber, rejoin)
        if worker.waits:
            bus.wait(timeout=_SOON)
        else:
            bus.wait(subscriber, *([conflicts.subscriber] if conflicts else []), timeout=_POLL)
        while not stop.is_set() and not worker.waits and (message := subscriber.receive()) is not None:
            worker.on_message(*message, time.monotonic())
        worker.take_conflicts()
        worker.on_idle(time.monotonic())
        if not worker.waits:
            bus.wait(timeout=_GATHER)
    worker.close()
    engine = worker.engine
    log.info(
        "stopped",
        **engine.counters,
        **worker.recent.counters,
        lost=dict(worker.turns.lost),
        **{f"{name}_by_signature": dict(counted) for name, counted in engine.by_signature.items()},
    )


class SignatureWorker:
    """The state of one run: the engine, and what was received and lost on the way to it.

    `received` counts events by name. `heard` is the time of the last turn on the monotonic clock. `undelivered` counts
    findings of a live source for which the receiver had no room.
    """

    def __init__(
        self,
        listener: Listener,
        chosen: list[type[Signature]],
        dns: DnsDataSource | None,
        deliver: Deliver,
        ids: Mapping[str, int],
        budget: TimeBudget,
        membership: Membership | None,
        beat: Callable[[], None],
        settings: Settings | None = None,
        conflicts: ConflictFeed | None = None,
        offer: Offer | None = None,
        replays: Replays | None = None,
    ) -> None:
        self._listener = listener
        self._conflicts = conflicts
        sources = DataSources(*([dns] if dns else []))
        self.engine = Engine(chosen, sources, self._on_finding, budget, settings)
        self.turns = TurnFollower(tuple(topic for topic in topics_of(chosen) if topic != TURN))
        self.coverage = Coverage()
        self.recent = RecentBatches()
        self._missed = MissedTurns(replays)
        self._membership = membership
        self.received: Counter[str] = Counter()
        self.heard: float | None = None
        self.undelivered = 0
        self._names = ConnectionEnricher(dns)
        self._deliver = deliver
        self._offer = offer
        self._beat = beat
        self._ids = ids
        self._select_events(chosen)
        report = partial(dns.client.report_losses, worker_name("signatures")) if dns else None
        self._losses = LossReporter(report) if report else LossReporter()
        self._completed: set[str] = set()
        self._counters: Counter[str] = Counter()

    def adopt(self, reloaded: Reloaded, subscriber: Subscriber, rejoin: Rejoin | None) -> None:
        """Go on with other signatures and settings. The events before were handled by the earlier ones."""
        chosen = reloaded.chosen.classes
        self.engine.adopt(reloaded.prepared)
        if subscribe_instead(subscriber, {*self._origins}, {*topics_of(chosen)}):
            self.turns.follow(tuple(topic for topic in topics_of(chosen) if topic != TURN))
        if (
            self._membership is not None
            and rejoin is not None
            and group_name("", chosen) != group_name("", self._chosen)
        ):
            self._membership.leave()
            self._membership = rejoin(chosen)
            self.recent.clear()
        self._ids = reloaded.chosen.ids
        self._select_events(chosen)
        structlog.get_logger().info("reloaded", signatures=[one.metadata.id for one in self.engine.signatures])

    def _select_events(self, chosen: Sequence[type[Signature]]) -> None:
        self._chosen = chosen
        self._derived = selected_names(chosen).intersection(DERIVED)
        self._origins = {topic: origins_of(chosen, topic) for topic in topics_of(chosen)}

    @property
    def waits(self) -> bool:
        """Whether the next message has to wait for the members of the group."""
        return self._membership is not None and self._membership.waits

    def on_message(self, topic: str, body: bytes, now: float) -> None:
        """Handle one message from the bus."""
        self._beat()
        try:
            if topic == TURN:
                self._on_turn(decode(body, Turn), now)
                self._share_work(now)
            else:
                self._on_batch(topic, decode(body, Batch), body, now)
        except BadMessage as error:
            self.engine.counters["bad_bus_message"] += 1
            structlog.get_logger().warning("bad_bus_message", topic=topic, error=str(error))

    def take_conflicts(self) -> None:
        """Handle the conflicts that the cache has published."""
        while self._conflicts is not None and (message := self._conflicts.subscriber.receive()) is not None:
            self.on_message(*message, time.monotonic())

    def on_idle(self, now: float) -> None:
        """Note that nothing waits to be received."""
        if self._listener.idle(now):
            self.engine.counters["reopened"] += 1
        self.recent.expire(now)
        self._share_work(now)

    def close(self) -> None:
        """Close the signatures, and report the last losses."""
        if self._membership is not None:
            self._membership.leave()
        self.engine.close()
        self._losses.close(self._all_losses())

    def _share_work(self, now: float) -> None:
        """Renew the membership; after a change of owners, handle what others left behind."""
        if self._membership is None:
            return
        before = self._membership.step(now, self._work)
        if before is not None:
            self._take_over(before, self._membership)

    def _take_over(self, before: Owners, group: Membership) -> None:
        """Handle the events that this worker owns now and did not own before: those that it missed, and recent ones."""
        for topic, batch in self._missed.take(before, group, self.recent, {*self._origins}):
            self._take_over_batch(topic, batch, before, group)
        self._counters["handover_lost"] = self._missed.lost
        for each in self.recent:
            self._take_over_batch(each.topic, decode(each.body, Batch), before, group)

    def _take_over_batch(self, topic: str, batch: Batch, before: Owners, group: Membership) -> None:
        group.renew(time.monotonic())
        old, new = before.share(batch.start, batch.turn), group.owners.share(batch.start, batch.turn)
        if old.members != new.members:
            self._counters["twice"] += len(self._select(topic, batch, Moved(old, new, batch.host)))
            self._handle(topic, batch, Moved(new, old, batch.host))

    def _work(self) -> Work:
        return Work(**self._counters, signatures=faults(**self.engine.by_signature))

    def _on_batch(self, topic: str, batch: Batch, body: bytes, now: float) -> None:
        self.received[topic] += len(batch.events)
        if topic == DNS_ANSWER_CONFLICT and self._conflicts is not None:
            self.turns.lost[topic] += self._conflicts.missed(batch)
        else:
            self.turns.batch(topic, batch)
            self.coverage.batch(batch.start, len(batch.events), self.turns.missed(batch.start))
        handled = self._handle(topic, batch, self._share_of(topic, batch, body, now))
        if handled < len(batch.events):
            self.engine.counters["skipped"] += len(batch.events) - handled

    def _share_of(self, topic: str, batch: Batch, body: bytes, now: float) -> ShareOfHost | None:
        """Return the actors whose events this worker handles, None for all; keep the batch for later owners."""
        if self._membership is None:
            return None
        if topic != DNS_ANSWER_CONFLICT:
            self._membership.receive(batch.start, batch.turn, now)
        elif batch.start not in self._membership.owners.spans:
            return None  # the cache is ahead: each worker that does not know the owner handles the event
        self.recent.add(Received(now, topic, batch.start, batch.turn, body))
        share = self._membership.owners.share(batch.start, batch.turn)
        return None if share.whole else ShareOfHost(share, batch.host)

    def _handle(self, topic: str, batch: Batch, actors: ActorFilter | None) -> int:
        """Pass the events on whose origins are selected and whose actors are wanted; return their number."""
        wanted = self._select(topic, batch, actors)
        if not wanted:
            return 0
        self._counters["handled"] += len(wanted)
        mark, coverage = (batch.start, batch.turn), self.coverage.of(batch.start)
        events = events_of(topic, batch, wanted, coverage, self.turns.difference(batch.start))
        with lookups_after(mark) as answer_as_of:
            for event in self._names.fill(events):
                self._beat()
                answer_as_of(event.time)
                self.engine.on_event(event)
                for derived in derived_events(event, self._derived) if self._derived else ():
                    self.engine.on_event(derived)
        return len(wanted)

    def _select(self, topic: str, batch: Batch, actors: ActorFilter | None) -> list[tuple[int, Captured]]:
        received = cast("ReceivedEvents", batch.events)  # as `decode` makes it
        return received.select(self._origins.get(topic, frozenset()), actors)

    def _on_turn(self, turn: Turn, now: float) -> None:
        if self._membership is not None:
            self.recent.begin(turn.start, turn.turn)
            self._membership.receive(turn.start, turn.turn, now)
            self._membership.handle(turn)
        self.turns.turn(turn)
        self._listener.turn(turn)
        self.coverage.turn(turn, self.turns.missed(turn.start))
        self.heard = now
        self._losses.note(self._all_losses(), now)
        if turn.ended and turn.start not in self._completed:
            self._completed.add(turn.start)
            if self._conflicts is not None and DNS_ANSWER_CONFLICT in self._origins:
                self._conflicts.complete((turn.start, turn.turn), self.take_conflicts)
            with lookups_after((turn.start, turn.turn)):
                self.engine.on_signal(Signal(SOURCE_COMPLETE))
            self._deliver({"signal": SOURCE_COMPLETE, "start": turn.start, **self.engine.counters})

    def _all_losses(self) -> dict[str, int]:
        return all_losses(self.turns.lost, self.engine, self._names.unnamed, self.undelivered)

    def _on_finding(self, finding: Finding) -> None:
        found = finding_map(finding, self._ids, self._since(finding.event))
        if self._offer is None or not self.turns.live:
            self._deliver(found)
        elif not self._offer(found):
            self.undelivered += 1

    def _since(self, event: Event) -> int | None:
        if self._membership is None or event.mark is None:
            return None
        return self._membership.since(*event.mark, actor_of(event.captured, event.host_name))
