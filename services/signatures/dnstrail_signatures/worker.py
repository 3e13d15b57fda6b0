"""The signature worker: receives events from the bus, runs signatures over them, delivers their findings."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import structlog

from dnstrail.bus import Bus, Subscriber
from dnstrail.captured import LAST_TIME, Captured
from dnstrail.client import DnsDataSource, lookups_after
from dnstrail.connection_names import ConnectionEnricher
from dnstrail.datasource import DataSources
from dnstrail.errors import BadMessage
from dnstrail.events import DERIVED, DNS_ANSWER_CONFLICT, FACT_NAMES, NET_PACKET_DNS, Event
from dnstrail.mutes import Mutes
from dnstrail.process.terminal import escape_unprintable
from dnstrail.protocol import PROBES
from dnstrail.protocol.batches import TURN, Batch, Turn, decode, decode_any
from dnstrail.protocol.event_table import ActorFilter, ReceivedEvents
from dnstrail.protocol.facts import RUNS, FactFeed, unpacked_facts
from dnstrail.protocol.keyed_subscriber import KeyedSubscriber
from dnstrail.protocol.listener import Listener
from dnstrail.protocol.losses import LossReporter, worker_name
from dnstrail.protocol.members import Work, failed, faults
from dnstrail.protocol.turn_follower import FollowedStarts, TurnFollower
from dnstrail.signature import Finding, Signal
from dnstrail.tracee.derived import derived_events
from dnstrail.tracee.event_shape import finding_map
from dnstrail_signatures.cache import ConflictFeed
from dnstrail_signatures.engine.engine import Engine, all_losses
from dnstrail_signatures.engine.time_budget import TimeBudget
from dnstrail_signatures.findings import Delivery
from dnstrail_signatures.group.share import GroupShare
from dnstrail_signatures.loading.chosen import Chosen, origins_of, selected_names, subscribe_instead, topics_of
from dnstrail_signatures.probes import ProbeClocks, ProbeCoverage, StreamTimes
from dnstrail_signatures.reload import Reload, Reloaded, Reloader

SOURCE_COMPLETE = "source_complete"
_POLL = 0.95  # seconds between two steps if nothing arrives: a changed file of mutes holds within a second
_GATHER = 0.09  # seconds for which messages gather: to wake up for each of them costs more than to handle them
_LONGEST = 0.5  # seconds for which messages of one kind are handled without a look at anything else
_MOST_EARLY = 256  # messages that are received while the first one waits for the reply of the cache
_SOON = 0.005  # seconds between two looks for the reply of the cache that the events wait for


def run(bus: Bus, worker: SignatureWorker, stop: threading.Event, reload: Reload | None = None) -> None:
    """Run a worker over events until the stop signal is set. No error of a signature ends the run.

    `reload` is the signal to reload, and chooses the signatures anew.

    Raises:
        OSError: stdout takes no more findings: its reader has gone, or the disk is full.
    """
    log = structlog.get_logger()
    log.info("ready", signatures=[signature.metadata.event_name for signature in worker.engine.signatures])
    reloader = None if reload is None else Reloader(*reload, worker.engine)
    while not stop.is_set() and worker.delivery.failed is None:
        worker.beat()
        if reloader is not None and (reloaded := reloader.step()) is not None:
            worker.adopt(reloaded)
        if reloader is not None:
            worker.refused = reloader.refused
        if worker.share.waits:
            worker.take_early(time.monotonic())
            bus.wait(timeout=_SOON)
            found = True
        else:
            longest = min(_POLL, max(worker.share.due - time.monotonic(), 0.0))
            found = bus.wait(*worker.subscribers, timeout=longest)
        more = _take_messages(worker, stop)
        worker.take_of_cache()
        if more:
            continue
        worker.on_idle(time.monotonic())
        if found and not worker.share.waits:
            bus.wait(timeout=_GATHER)
    worker.close()
    log.info(
        "stopped",
        **worker.engine.counters,
        **worker.share.recent.counters,
        lost=dict(worker.turns.lost),
        **{f"{name}_by_signature": dict(counted) for name, counted in worker.engine.by_signature.items()},
    )
    if worker.delivery.failed is not None:
        raise worker.delivery.failed


def _take_messages(worker: SignatureWorker, stop: threading.Event) -> bool:
    """Handle the messages of the probes for a bounded time; return whether more may wait."""
    until = time.monotonic() + _LONGEST
    while not stop.is_set() and not worker.share.waits and worker.take_message():
        if time.monotonic() >= until:
            return True
    return False


class SignatureWorker:
    """The state of one run: the engine, and what was received and lost on the way to it.

    `share` is the part of the events that the worker handles. `conflicts` and `facts` are the events of the cache.
    `beat` is called before each event. `received` counts events by name. `heard` is the time of the last turn on the
    monotonic clock, `facts_heard` that of the facts. At most `probes` starts of probes are followed. `refused` is why
    the last reload was refused. Signatures keep in the folder `state` what they need after a restart.
    """

    def __init__(
        self,
        subscriber: Subscriber,
        chosen: Chosen,
        delivery: Delivery,
        *,
        dns: DnsDataSource | None = None,
        conflicts: ConflictFeed | None = None,
        facts: FactFeed | None = None,
        budget: TimeBudget | None = None,
        share: GroupShare | None = None,
        beat: Callable[[], None] = lambda: None,
        probes: int = PROBES,
        state: Path | None = None,
        mutes: Mutes | None = None,
    ) -> None:
        self.share = share or GroupShare()
        self.delivery = delivery
        self.beat = beat
        self._bus_end = subscriber
        self._conflicts = conflicts
        self._facts = facts
        sources = DataSources(*([dns] if dns else []))
        self.engine = Engine(
            *(chosen.classes, sources, self._on_finding, budget, chosen.settings, probes, chosen.asked, state),
            facts=facts is not None,
        )
        self.refused = ""
        self._mutes = mutes
        self._subscriber = KeyedSubscriber(subscriber, time.monotonic, self.engine.counters)
        self._listener = Listener(self._subscriber)
        self._starts = FollowedStarts(probes + (RUNS if facts else 0), self._forget, self.engine.counters)
        self.turns = TurnFollower(chosen.followed)
        self.coverage = ProbeCoverage()
        self.received: Counter[str] = Counter()
        self._next: tuple[str, bytes] | None = None  # was received, and has to wait for the cache
        self._early = 0  # messages that were received while the first one waits
        self.heard: float | None = None
        self.facts_heard: float | None = None
        self._names = ConnectionEnricher(dns)
        self._select_events(chosen)
        report = partial(dns.client.report_losses, worker_name("signatures")) if dns else None
        self._losses = LossReporter(report) if report else LossReporter()
        self._due = 0.0  # the time (monotonic) of the next report
        self._times = StreamTimes()
        self._clocks = ProbeClocks()
        self._counters: Counter[str] = Counter()

    @property
    def faults(self) -> dict[str, str]:
        """Why signatures do not run as their settings state, by id.

        "reload": why the last reload was refused; "mutes": why the file of mutes is not obeyed.
        """
        mutes = "" if self._mutes is None else self._mutes.refused
        found = self.engine.faults | {name: one for name, one in (("reload", self.refused), ("mutes", mutes)) if one}
        return {escape_unprintable(name): escape_unprintable(reason) for name, reason in found.items()}

    @property
    def awaits_facts(self) -> bool:
        """Whether signatures select facts that a cache is to publish."""
        return self._facts is not None and not self._origins.keys().isdisjoint(FACT_NAMES)

    @property
    def subscribers(self) -> list[Subscriber]:
        """The ends at which events arrive."""
        return [self._bus_end, *(feed.subscriber for feed in (self._conflicts, self._facts) if feed is not None)]

    def adopt(self, reloaded: Reloaded) -> None:
        """Go on with other signatures and settings. The events before were handled by the earlier ones."""
        chosen = reloaded.chosen
        self.engine.adopt(reloaded.prepared)
        if subscribe_instead(self._subscriber, {*self._origins}, {*topics_of(chosen.classes)}):
            self.turns.follow(chosen.followed)
        self.share.change(self._chosen, chosen)
        self._select_events(chosen)
        structlog.get_logger().info("reloaded", signatures=[one.metadata.event_name for one in self.engine.signatures])

    def _select_events(self, chosen: Chosen) -> None:
        self._chosen = chosen
        self._derived = selected_names(chosen.classes).intersection(DERIVED)
        self._origins = {topic: origins_of(chosen.classes, topic) for topic in topics_of(chosen.classes)}
        if self._facts is not None:
            self._facts.select({*FACT_NAMES}.intersection(self._origins))

    def take_message(self) -> bool:
        """Handle the next message of the probes; return False if none has arrived."""
        message = self._next or self._subscriber.receive()
        self._next, self._early = None, 0
        if message is not None:
            self.on_message(*message, time.monotonic())
        return message is not None

    def take_early(self, now: float) -> None:
        """Receive messages while the first one waits for the cache: one reply then serves all of their starts.

        Those of starts without known owners are kept for them. Any other one has to wait.
        """
        while self._early < _MOST_EARLY and self._next is None and (message := self._subscriber.receive()) is not None:
            self._early += 1
            if self._is_kept(*message):
                self.on_message(*message, now)
            else:
                self._next = message

    def _is_kept(self, topic: str, body: bytes) -> bool:
        try:
            message = decode_any(topic, body)
        except BadMessage:
            return True
        return self.share.waits_for(message.start) and not (isinstance(message, Turn) and message.ended)

    def on_message(self, topic: str, body: bytes, now: float, facts: FactFeed | None = None) -> None:
        """Handle one message from the bus: of a probe, or of the facts of the cache."""
        self.beat()
        try:
            if topic == TURN:
                turn = decode(body, Turn)
                if self._starts.follow(turn, now):
                    self._on_turn(turn, now, facts)
                if now >= self._due:  # many messages wait
                    self._report_and_share(now)
            elif topic:  # else it was refused
                self._on_batch(topic, batch := decode(body, Batch), body, now)
                if facts is not None:
                    facts.batch(batch)
        except BadMessage as error:
            self._refuse(topic, error)

    def take_of_cache(self) -> None:
        """Handle the conflicts and the facts that the cache has published, for a bounded time."""
        until = time.monotonic() + _LONGEST
        while (received := self._receive_of_cache()) is not None:
            message, facts = received
            self.on_message(*message, time.monotonic(), facts)
            if time.monotonic() >= until:
                break

    def _take_last(self) -> None:
        """Handle what the cache has published; events of probes go to memory meanwhile, so that the bus has room."""
        self.take_of_cache()
        self._bus_end.fill()

    def _receive_of_cache(self) -> tuple[tuple[str, bytes], FactFeed | None] | None:
        """Return the next message of the cache, with the feed of a fact: facts wait for the members of the group."""
        if self._conflicts is not None and (message := self._conflicts.subscriber.receive()) is not None:
            return message, None
        if self._facts is None or self.share.waits:
            return None
        message = self._facts.subscriber.receive()
        return None if message is None else (message, self._facts)

    def on_idle(self, now: float) -> None:
        """Note that nothing waits to be received."""
        if reopened := self._listener.idle(now) + (self._facts.idle(now) if self._facts else 0):
            self.engine.counters["reopened"] += reopened
        for start, clock in self._clocks.silent(now):
            self.engine.on_time(start, clock)
        self.share.expire(now)
        self._report_and_share(now)

    def close(self) -> None:
        """Close the signatures, and report the last losses."""
        self.share.leave()
        self.engine.close()
        self.delivery.close()
        self._losses.close(self._all_losses())

    def _report_and_share(self, now: float) -> None:
        """Report losses, and take part in the group; after a change of owners, handle what others left behind."""
        self._due = now + _LONGEST
        if self._mutes is not None:
            self._mutes.reload()
        self._losses.note(self._all_losses(), now)
        for moved in self.share.step(now, self._work, self._origins):
            try:
                self._counters["twice"] += len(self._select(moved.topic, moved.batch, moved.given_up))
                self._handle(moved.topic, moved.batch, moved.gained, again=True)
            except BadMessage as error:  # any probe may send a bad event
                self._refuse(moved.topic, error)

    def _work(self) -> Work:
        return Work(
            **self._counters,
            handover_lost=self.share.lost,
            signatures=faults(**self.engine.by_signature),
            failed=failed(self.faults),
        )

    def _on_batch(self, topic: str, batch: Batch, body: bytes, now: float) -> None:
        if topic == DNS_ANSWER_CONFLICT and self._conflicts is not None:
            self.turns.lost[topic] += self._conflicts.missed(batch)
        elif not self._starts.follow(batch, now):
            return
        else:
            self.turns.batch(topic, batch)
            self.coverage.batch(batch.start, len(batch.events), self.turns.missed(batch.start))
        self.received[topic] += len(batch.events)
        times = None
        if topic == NET_PACKET_DNS and not self.turns.live:
            times = self._times.of(batch.start, cast("ReceivedEvents", batch.events).stamps())
        handled = self._handle(topic, batch, self.share.of_batch(topic, batch, body, now), times)
        if handled < len(batch.events):
            self.engine.counters["skipped"] += len(batch.events) - handled

    def _handle(
        self,
        topic: str,
        batch: Batch,
        actors: ActorFilter | None,
        times: Sequence[int] | None = None,
        *,
        again: bool = False,
    ) -> int:
        """Pass the events on whose origins are selected and whose actors are wanted; return their number.

        Lookups are as of `times`, one for each event of the batch; by default as of the time stamps. `again` states
        that this worker may have handled the events before. A fact always may: after a crash the cache publishes some
        again.
        """
        wanted = self._select(topic, batch, actors)
        if not wanted:
            return 0
        self._counters["handled"] += len(wanted)
        mark, batch_place = (batch.start, batch.turn), (topic, batch.sequence)
        coverage, difference = self.coverage.of(batch.start), self.turns.difference(batch.start)
        events = [
            Event(topic, one, mark, batch.host, coverage=coverage, difference=difference, place=(*batch_place, place))
            for place, one in wanted
        ]
        with lookups_after(mark) as answer_as_of:
            for event, (place, _) in zip(self._names.fill(events), wanted, strict=True):
                self.beat()
                answer_as_of(event.time if times is None else (batch.start, times[place]), event.owner)
                if again or topic in FACT_NAMES:
                    self.engine.repeat(event)
                self.engine.on_event(event)
                for derived in derived_events(event, self._derived) if self._derived else ():
                    self.engine.on_event(derived)
        return len(wanted)

    def _select(self, topic: str, batch: Batch, actors: ActorFilter | None) -> list[tuple[int, Captured]]:
        received = cast("ReceivedEvents", batch.events)  # as `decode` makes it
        selected = received.select(self._origins.get(topic, frozenset()), actors)
        if topic not in FACT_NAMES:
            return selected
        return [*unpacked_facts(topic, batch.probe, selected, partial(self._refuse, topic))]

    def _refuse(self, topic: str, error: BadMessage) -> None:
        """Count a message, or a fact, in which something is wrong."""
        self.engine.counters["bad_bus_message"] += 1
        structlog.get_logger().warning("bad_bus_message", topic=topic, error=str(error))

    def _on_turn(self, turn: Turn, now: float, facts: FactFeed | None) -> None:
        self.share.end_turn(turn, now)
        earlier = self.turns.last(turn.start)
        self.turns.turn(turn)
        (facts or self._listener).turn(turn)
        self.coverage.turn(turn, self.turns.missed(turn.start))
        if facts is None:
            self.heard = now
        else:
            self.facts_heard = now
        self.engine.on_time(turn.start, self._clocks.turn(turn, now))
        if facts is None and turn.ended and not (earlier is not None and earlier.ended):
            if self._conflicts is not None and {DNS_ANSWER_CONFLICT, *FACT_NAMES}.intersection(self._origins):
                self._conflicts.complete((turn.start, turn.turn), self._take_last, self._origins, self._facts)
            with lookups_after((turn.start, turn.turn)):
                self.engine.on_signal(Signal(SOURCE_COMPLETE))
            complete = {"signal": SOURCE_COMPLETE, "start": turn.start, **self.engine.counters}
            self.delivery.send(complete, live=self.turns.live)

    def _forget(self, start: str) -> None:
        """Forget a start that gave way to another one."""
        self.engine.on_time(start, LAST_TIME)
        for holder in (self.turns, self.coverage, self._times, self._clocks, self.share):
            holder.forget(start)

    def _all_losses(self) -> dict[str, int]:
        return all_losses(self.turns.lost, self.engine, self._names.unnamed, self.delivery.undelivered)

    def _on_finding(self, finding: Finding) -> None:
        found = finding_map(finding, self._chosen.ids, self.share.since(finding.event))
        if self._mutes is not None and self._mutes.fit(found, time.time()):
            self.engine.suppressed[finding.metadata.event_name] += 1
        else:
            self.delivery.send(found, live=self.turns.live)
