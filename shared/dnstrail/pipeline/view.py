"""Receives the events and findings of a run from the bus, and passes them on to the output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec

from dnstrail.bus import Bus, Pusher
from dnstrail.bus.ipc import events_address, findings_address, lookups_address
from dnstrail.captured import Captured
from dnstrail.client import DnsDataSource
from dnstrail.connection_names import AT_ONCE, ConnectionEnricher
from dnstrail.errors import BadMessage
from dnstrail.events import DERIVED, FACT_NAMES, FINDINGS_LOST, REFUSED_EVENTS, Event, topics_of
from dnstrail.process.clock import Clock
from dnstrail.protocol import PROBES
from dnstrail.protocol.batches import TURN, Batch, Turn, decode, unpack
from dnstrail.protocol.facts import RUNS, FactFeed, unpacked_facts
from dnstrail.protocol.listener import Listener
from dnstrail.protocol.lookups import ConnectionTo
from dnstrail.protocol.losses import LossReporter, worker_name
from dnstrail.protocol.replays import TurnRequests, replay_address
from dnstrail.protocol.turn_follower import FollowedStarts, TurnFollower

_TIMEOUT = 2.0  # seconds for the names of connections, while events wait: a machine that stands still is no absence
_PATIENCE = 10.0  # seconds for the same at the end, and for the last facts
_LOOK = 0.05  # seconds between two looks for these
#: seconds for which an all-in-one run waits for room at its outputs, for one finding -> the finding is lost:
#: `findings_lost`
ROOM = 1.0
Item = Event | dict[str, Any]  # an event, or a finding
Emit = Callable[[Item], None]


class _Argument(msgspec.Struct):
    name: str
    value: Any


class _Finding(msgspec.Struct):
    """The fields of a finding that the output reads."""

    timestamp: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
    eventName: str  # noqa: N815 - tracee's name, as all here
    processName: str  # noqa: N815 - as above
    processId: int  # noqa: N815 - as above
    args: list[_Argument]


class EventView:
    """Passes the chosen events and findings on to `emit`, and follows the turns of the probe.

    `last` is the latest turn of the probe, None before the first. Without `take_findings` another process receives the
    findings of the run-dir. `outputs` receives them, too. Events and findings that are lost are logged, and reported to
    the cache. If facts are chosen, the view subscribes to the turns of the probe, which may wait for it, only when the
    cache publishes facts.
    """

    def __init__(
        self,
        run_dir: Path,
        events: tuple[str, ...],
        findings: tuple[str, ...],
        bus: Bus,
        emit: Emit,
        *,
        cache: bool,
        take_findings: bool = True,
        outputs: Pusher | None = None,
        probes: int = PROBES,
    ) -> None:
        self.last: Turn | None = None
        self._emit = emit
        self._bus = bus
        self._chosen = {*events, *findings}
        self._derived_events = derivation(self._chosen)
        self._outputs = outputs
        self._undelivered = 0
        self._findings = bus.puller(findings_address(run_dir)) if take_findings else None
        topics = topics_of(events)
        facts = [topic for topic in topics if topic in FACT_NAMES] if cache else []
        self._facts = FactFeed(bus, lookups_address(run_dir), facts) if facts else None
        topics_of_probe = [topic for topic in topics if topic not in FACT_NAMES]
        self._events = bus.subscriber([events_address(run_dir)], [*topics_of_probe, *([] if facts else [TURN])])
        self._listener = Listener(self._events)
        self._dns = DnsDataSource(lookups_address(run_dir), timeout=_TIMEOUT, bus=bus) if cache else None
        self._names = ConnectionEnricher(self._dns)
        self._turns = TurnFollower(topics)
        self._refused: Counter[str] = Counter()
        self._starts = FollowedStarts(probes + (RUNS if facts else 0), self._turns.forget, self._refused)
        report = partial(self._dns.client.report_losses, worker_name("dnstrail")) if self._dns else None
        self._losses = LossReporter(report) if report else LossReporter()
        self._signatures_done = not findings
        self._probe = bus.requester(replay_address(events_address(run_dir)))
        self._turn_requests = TurnRequests([self._probe], probes)

    @property
    def ended(self) -> bool:
        """True once the source has ended and the signatures have handled all events."""
        return self.last is not None and self.last.ended and self._signatures_done

    @property
    def lost(self) -> int:
        """The number of events and ends of turns that the bus lost on the way to this process."""
        return self._turns.lost.total()

    def names_of(self, connections: list[ConnectionTo]) -> list[list[str]]:
        """Return the names of connections, [] where none is known, once the cache has applied the last turn.

        Raises:
            DataSourceError: no cache answers.
        """
        if self._dns is None or self.last is None:
            return [[] for _ in connections]
        patient = DnsDataSource(self._dns.client.address, timeout=_PATIENCE, bus=self._bus)
        try:
            after = [(self.last.start, self.last.turn)]
            parts = (connections[first : first + AT_ONCE] for first in range(0, len(connections), AT_ONCE))
            return [names for part in parts for names in patient.rank(part, after=after)]
        finally:
            patient.close()

    def ask_for_turn(self) -> None:
        """Ask the probe to end its open turn: an idle one ends its turns once a second."""
        if self.last is None:
            self._turn_requests.ask_all()
        else:
            self._turn_requests.ask((self.last.start, self.last.turn + 1), self.last.turn)

    def wait(self, timeout: float) -> None:
        """Wait until something arrives, for at most `timeout` seconds."""
        facts = [self._facts.subscriber] if self._facts else []
        self._bus.wait(self._events, *facts, *([self._findings] if self._findings else []), timeout=timeout)

    def take(self, clock: Clock) -> None:
        """Pass on everything that has arrived."""
        while (message := self._events.receive()) is not None:
            self._on_message(*message, clock)
        self._listener.idle(clock.monotonic())
        while self._facts and (message := self._facts.subscriber.receive()) is not None:
            self._on_message(*message, clock, self._facts)
        if self._facts:
            self._facts.idle(clock.monotonic())
        while self._findings and (body := self._findings.receive()) is not None:
            self._on_finding(body)

    @property
    def hears_facts(self) -> bool:
        """Whether the cache publishes the facts that are chosen."""
        return self._facts is not None and self._facts.heard

    def take_facts(self, published: int, clock: Clock) -> None:
        """Pass on the facts that the cache has published, for a bounded time."""
        deadline = clock.monotonic() + _PATIENCE
        while self._facts and self._facts.published < published and clock.monotonic() < deadline:
            self.wait(_LOOK)
            self.take(clock)

    def close(self) -> None:
        """Stop listening, so that the probe does not wait for this process, and report the losses not reported yet."""
        self._events.close()
        if self._facts is not None:
            self._facts.subscriber.close()
        self._probe.close()
        if self._outputs is not None:
            self._outputs.close()
        self._losses.close(self._all_losses())
        if self._dns is not None:
            self._dns.close()

    def _on_message(self, topic: str, body: bytes, clock: Clock, facts: FactFeed | None = None) -> None:
        """Handle a message of the probe, or of the facts of the cache."""
        try:
            if topic == TURN:
                self._on_turn(decode(body, Turn), clock, facts)
                return
            batch = decode(body, Batch)
            if not self._starts.follow(batch, clock.monotonic()):
                return
            mark = (batch.start, batch.turn)
            difference = self._turns.difference(batch.start)
            captured: Iterable[tuple[int, Captured]] = enumerate(batch.events)
            if facts is not None:
                captured = unpacked_facts(topic, batch.probe, captured, lambda _: None)  # as below
            events = [Event(topic, one, mark, batch.host, difference=difference) for _, one in captured]
        except BadMessage:
            return  # counted by the other workers
        self._turns.batch(topic, batch)
        if facts is not None:
            facts.batch(batch)
        for event in self._names.fill(events):
            if topic in self._chosen:  # else only the events derived from it are chosen
                self._emit(event)
            for derived in self._derived_events(event, self._chosen):
                self._emit(derived)

    def _on_turn(self, turn: Turn, clock: Clock, facts: FactFeed | None) -> None:
        if not self._starts.follow(turn, clock.monotonic()):
            return
        self._turns.turn(turn)
        if facts is None:
            self.last = turn
            self._listener.turn(turn)
        else:
            if not facts.heard:
                self._events.subscribe(TURN)
            facts.turn(turn)
        self._losses.note(self._all_losses(), clock.monotonic())

    def _on_finding(self, body: bytes) -> None:
        try:
            message = msgspec.convert(unpack(body), dict[str, Any])
            if "signal" in message:  # the signature worker has handled all events of the source
                self._signatures_done = True
            elif msgspec.convert(message, _Finding).eventName in self._chosen:
                self._emit(message)
                if self._outputs is not None and not self._outputs.push(body, wait=ROOM):
                    self._undelivered += 1
        except (BadMessage, msgspec.ValidationError):
            return  # none of our workers sent it

    def _all_losses(self) -> dict[str, int]:
        reasons = {FINDINGS_LOST: self._undelivered, REFUSED_EVENTS: self._refused[REFUSED_EVENTS]}
        return {**self._turns.lost, **{reason: count for reason, count in reasons.items() if count}}


def derivation(chosen: Iterable[str]) -> Callable[[Event, set[str]], list[Event]]:
    """Return the function that derives the chosen events, and import what it needs; none may be chosen."""
    if not {*chosen}.intersection(DERIVED):
        return lambda _event, _chosen: []
    from dnstrail.tracee.derived import derived_events  # noqa: PLC0415 - few processes need dnspython

    return derived_events
