"""The feeder: applies what probes publish to the state of the cache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import structlog

from dnstrail.bus import Subscriber
from dnstrail.captured import Captured
from dnstrail.errors import BadMessage
from dnstrail.events import EFFECTS, NET_PACKET_DNS
from dnstrail.image import FeedOutcome
from dnstrail.image.apply import Stamps, apply_event, apply_messages
from dnstrail.image.bounds import SECOND
from dnstrail.protocol.batches import TURN, Batch, Turn, decode, decode_whole
from dnstrail.protocol.event_table import Row
from dnstrail.protocol.listener import LONGEST_LOOK, Listener
from dnstrail.protocol.losses import LossReporter
from dnstrail_cache.losses import EVERYBODY, SKIPPED, Loser, losers
from dnstrail_cache.state.cache_state import CacheState
from dnstrail_cache.state.health import TurnTimes

#: connections and processes that wait for the end of their turn -> all of the host that has most are applied at once:
#: `applied_early`
MAX_HELD = 8192


class HeldEvent(NamedTuple):
    """An event with its topic and its host, its stamp on the clock of the stream, its batch, and its place in it."""

    stamp: int
    topic: str
    event: Captured
    host: str
    batch: str
    place: int


class HeldEvents:
    """The events of each probe that wait for the end of their turn, within a bound. Who floods it pays alone."""

    def __init__(self) -> None:
        self._of: dict[str, list[HeldEvent]] = {}
        self._number = 0

    def add(self, start: str, event: HeldEvent) -> list[HeldEvent]:
        """Hold an event of a start. Return the events that must not wait any longer.

        Beyond the bound these are all events of the host that has most.
        """
        self._of.setdefault(start, []).append(event)
        self._number += 1
        if self._number <= MAX_HELD:
            return []
        held: Counter[str] = Counter()
        for events in self._of.values():
            held[events[0].host] += len(events)
        [(most, _)] = held.most_common(1)
        starts = [start for start, events in self._of.items() if events[0].host == most]
        return [early for start in starts for early in self.take(start)]

    def take(self, start: str) -> list[HeldEvent]:
        """Return the events of a start in the order of their stamps, and hold them no longer."""
        events = self._of.pop(start, [])
        self._number -= len(events)
        return sorted(events, key=lambda held: held.stamp)


TOPICS = (*EFFECTS, TURN)
_AT_ONCE = 0.02  # seconds for the messages of one step, by default
_MESSAGES_AT_ONCE = 256
_EVENTS_AT_ONCE = 8  # of one batch, between two looks at the clock
_SWEPT_AT_ONCE = 512  # deadlines of the image
#: seconds by which the cache may be behind before it shares its work -> responses of an owner beyond its part are
#: skipped: `skipped_behind`
_BEHIND = 0.1
_COUNT = 0.5  # seconds between two looks at all probes


class Feeder:
    """Applies messages of the bus to a state, in the order of their arrival.

    Connections and processes are held until their turn has ended, and are then applied in the order of their stamps:
    the answers before a connection may arrive in a later batch of the turn.

    Nothing that a probe sends raises here: a bad message is counted. `report` receives each answer that conflicts with
    another, and its batch.
    """

    def __init__(self, subscriber: Subscriber, state: CacheState, report: Callable[[Captured, Batch], None]) -> None:
        self._subscriber = subscriber
        self._listener = Listener(subscriber)
        self._state = state
        self._report = report
        self._loss_reporter = LossReporter()
        self._lost_on_bus = 0
        self._silent: set[str] = set()
        self._counted = float("-inf")
        self._looked = state.clock.monotonic()
        self._applying: Iterator[bool] = iter(())  # the rest of the batch or of the turn at hand
        self._held = HeldEvents()
        self._emptied = self._looked  # when nothing waited last
        self._late = float("-inf")  # when a late event was applied last
        self.applied = False  # whether the last call of `drain` found anything

    def drain(self, seconds: float = _AT_ONCE) -> bool:
        """Apply what has arrived, for a bounded time, and remove what has ended; return whether more may wait.

        Lookups wait meanwhile. The next call continues a batch that takes longer.
        """
        state, more = self._state, True
        began = state.clock.monotonic()
        self._note_standstill(began)
        until = began + seconds
        for number in range(_MESSAGES_AT_ONCE):
            more = self._apply_next()
            self.applied = more or number > 0
            if not more or state.clock.monotonic() >= until:
                break
        if began >= self._counted + _COUNT:
            self._counted = began
            self._count_vanished()
        if state.live:
            state.image.advance(state.stream.now())
        state.image.sweep(_SWEPT_AT_ONCE)
        return more

    def complete(self) -> None:
        """Apply the rest of the batch at hand: the positions of the follower count it already."""
        for _ in self._applying:
            pass

    def _apply_next(self) -> bool:
        """Apply the next events of the batch at hand, or else the next message; return False if there is none."""
        try:
            if next(self._applying, False):
                return True
            message = self._subscriber.receive()
            if message is None:
                self._emptied = self._state.clock.monotonic()
                self._note_silence()
                return False
            self._apply(*message)
        except BadMessage:
            self._state.counters["bad_bus_message"] += 1
        return True

    def _apply(self, topic: str, body: bytes) -> None:
        """Decode a message. Its events, and the end of its turn, come with the next calls."""
        state = self._state
        if topic == TURN:
            turn = decode(body, Turn)
            if state.starts.follow(turn, self._looked):
                self._applying = self._end_turn(turn)
        elif topic in EFFECTS:
            batch, rows = decode_whole(body)
            if not state.starts.follow(batch, self._looked):
                return
            if not state.follower.knows(batch.start):
                self._doubt(batch.host)
            state.follower.batch(topic, batch)
            self._note_lost_on_bus(batch.host)
            self._applying = self._apply_events(topic, batch, rows, self._stamps(batch.start, rows))

    def _stamps(self, start: str, rows: Sequence[Row]) -> Stamps:
        """Return the stamps of a batch that has just arrived: none of a live event is ahead of this arrival.

        Before the first turn of a start its clock is unknown. If it is not near the clock of this host, the newest
        event counts as of now.
        """
        state = self._state
        if not state.live:
            return Stamps()
        now, shift = state.stream.now(), state.stream.shift_of(start)
        if shift is None:
            newest = max((event.timestamp for event, _ in rows), default=now)
            shift = 0 if abs(now - newest) < SECOND else now - newest
        return Stamps(shift, now)

    def _apply_events(self, topic: str, batch: Batch, rows: Sequence[Row], stamps: Stamps) -> Iterator[bool]:
        """Apply the events of a batch, and pause after each few of them."""
        state = self._state
        host = state.heard(batch.host)
        name = f"{batch.start}/{batch.sequence}"  # of the DNS messages, in the ids of facts
        for first in range(0, len(rows), _EVENTS_AT_ONCE):
            some = rows[first : first + _EVENTS_AT_ONCE]
            if topic == NET_PACKET_DNS:
                behind = self._is_behind(batch.start, some[0][0].timestamp + stamps.shift)
                for place, outcome in apply_messages(
                    state.image, some, stamps, live=state.live, host=host, behind=behind, batch=name, first=first
                ):
                    self._note_outcome(outcome, place, batch)
            else:
                self._hold_some(topic, batch, some, stamps, first)
            yield True
        if stamps.ahead:
            state.counters["stamp_ahead"] += stamps.ahead
        state.applied[topic] += len(rows)

    def _note_outcome(self, outcome: FeedOutcome, place: int, batch: Batch) -> None:
        if outcome.conflict:
            self._report(batch.events[place], batch)
        if outcome.skipped is not None:
            self._state.skipped.note((batch.start, batch.turn), outcome.skipped)

    def _is_behind(self, start: str, stamp: int) -> bool:
        """Return whether this cache is behind a live start, before it applies an event with this stamp.

        It is if events have waited ever since, and one of any start was late within the last tenth of a second: the
        stamps of one host say nothing about the others.
        """
        state, now = self._state, self._state.clock.monotonic()
        turn = state.follower.last(start)
        if turn is None or not turn.live or now - self._emptied <= _BEHIND:
            return False
        if state.stream.now() - stamp > _BEHIND * SECOND:
            self._late = now
        return now - self._late <= _BEHIND

    def _hold_some(self, topic: str, batch: Batch, some: Sequence[Row], stamps: Stamps, first: int) -> None:
        name = f"{batch.start}/{topic}/{batch.sequence}"
        for place, (event, process) in enumerate(some, first):
            whole = Captured(event.timestamp, event.payload, event.flow, process, event.args, event.processor)
            held = HeldEvent(stamps.of(event.timestamp), topic, whole, batch.host, name, place)
            self._hold(batch.start, held)

    def _hold(self, start: str, event: HeldEvent) -> None:
        for early in self._held.add(start, event):
            self._state.counters["applied_early"] += 1
            self._apply_held(early)

    def _apply_held(self, held: HeldEvent) -> None:
        state = self._state
        effect = EFFECTS[held.topic]
        apply_event(
            state.image,
            effect,
            held.event,
            live=state.live,
            stamp=held.stamp,
            host=held.host,
            batch=held.batch,
            place=held.place,
        )

    def _end_turn(self, turn: Turn) -> Iterator[bool]:
        """Apply the events that were held until the turn ends, and pause after each few of them; then note the end."""
        for number, held in enumerate(self._held.take(turn.start), 1):
            self._apply_held(held)
            if number % _EVENTS_AT_ONCE == 0:
                yield True
        self._note_turn(turn)

    def _note_turn(self, turn: Turn) -> None:
        state = self._state
        now = state.clock.monotonic()
        earlier = state.end_turn(turn, now)
        self._listener.turn(turn)
        self._note_losses(turn, earlier)
        skipped = state.image.counters[SKIPPED]
        self._loss_reporter.note({**state.follower.lost, SKIPPED: skipped} if skipped else state.follower.lost, now)

    def _note_losses(self, turn: Turn, earlier: Turn | None) -> None:
        """Put the losers at the probe in doubt; after a loss on the bus, or the start of a probe, all of its host."""
        self._note_lost_on_bus(turn.host)
        if earlier is None:
            self._doubt(turn.host)
        for loser in losers(turn, earlier):
            self._doubt(turn.host, loser)

    def _note_lost_on_bus(self, host: str) -> None:
        """Put all parties of a host in doubt if the message of it at hand shows a loss on the bus."""
        lost = self._state.follower.lost.total()
        if lost != self._lost_on_bus:
            self._lost_on_bus = lost
            self._doubt(host)

    def _doubt(self, host: str = "", loser: Loser = EVERYBODY) -> None:
        """Put a cgroup in doubt, all of an owner or of a host, or all parties."""
        self._state.image.gap(max(self._state.now, self._state.image.now), host, *loser)

    def _note_silence(self) -> None:
        if reopened := self._listener.idle(self._state.clock.monotonic()):
            self._state.counters["reopened"] += reopened

    def _note_standstill(self, now: float) -> None:
        """Leave the time for which this process stood still out of the silence of the probes: their turns wait."""
        stood = now - self._looked - LONGEST_LOOK
        self._looked = now
        if stood > 0:
            times = self._state.turn_times.items()
            self._state.turn_times = {start: TurnTimes(one.first + stood, one.last + stood) for start, one in times}

    def _count_vanished(self) -> None:
        silent = self._state.vanished
        for start in silent - self._silent:
            self._state.counters["probes_vanished"] += 1
            structlog.get_logger().warning("probe_vanished", start=start)
        self._silent = silent
        self._state.follower.gone = self._state.gone if silent else frozenset()
