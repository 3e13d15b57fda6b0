"""The worker of the history: receives the facts of the cache of its host, and stores each of them once."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog

from dnstrail.bus import Requester
from dnstrail.captured import LAST_TIME
from dnstrail.errors import BadMessage
from dnstrail.events import DNS_TRANSACTION, FACTS_UNWRITTEN, NET_CONNECTION
from dnstrail.history.fact import Fact, StageFact, read_fact, read_stage
from dnstrail.history.segment import StoredProgress, Stretch
from dnstrail.history.subjects import Subjects
from dnstrail.log_pause import LogPause
from dnstrail.process.clock import Clock
from dnstrail.protocol.batches import TURN, Batch, Turn, decode
from dnstrail.protocol.catch_up import CatchUp
from dnstrail.protocol.fact_batches import FactRow, decode_facts
from dnstrail.protocol.facts import FactFeed
from dnstrail.protocol.losses import LossReporter
from dnstrail.protocol.turn_follower import FollowedStarts, Position, TurnFollower
from dnstrail_history.past.server import OUTCOMES, PastServer
from dnstrail_history.store.store import FactStore

TOPICS: Final = (DNS_TRANSACTION, NET_CONNECTION)
#: runs of the cache that are followed, also those that were killed lately -> a further one is refused for ten seconds
STARTS: Final = 8
_POLL: Final = 0.25  # seconds for which messages are gathered
_SOON: Final = 0.05  # the same while a replay is awaited, which has many parts
_AT_ONCE: Final = 0.1  # seconds for messages before what they carry is written
_WRITE: Final = 0.5  # seconds for which facts are gathered: a commit writes whole pages
_IDLE: Final = 20.0  # seconds between two writes of the progress without facts: a cache replays its last 90 s
_NOTHING: Final = Subjects()


def run(
    feed: FactFeed,
    replays: Requester,
    store: FactStore,
    clock: Clock,
    stop: threading.Event,
    *,
    excluded: Subjects = _NOTHING,
    report: Callable[[Mapping[str, int]], bool] = lambda _: True,
    beat: Callable[[], None] = lambda: None,
    observe: Callable[[HistoryWorker], None] = lambda _: None,
    past: PastServer | None = None,
) -> None:
    """Store facts until the stop signal is set.

    `replays` is where the cache replays what it published before. Facts about what is `excluded` are not stored.
    `report` sends the number of lost facts to the cache. `beat` is called while the loop runs, and `observe` once
    before it. `past` answers lookups meanwhile.

    Raises:
        Exception: A segment could not be finished, or a lookup not be answered, by a fault of dnstrail.
    """
    worker = HistoryWorker(feed, replays, store, clock, LossReporter(report), excluded)
    if past is not None:
        worker.lookups = past.counters
    observe(worker)
    log = structlog.get_logger()
    log.info("ready")
    while not stop.is_set():
        if not worker.behind:
            # A wakeup for each message would cost more than its facts.
            stop.wait(_SOON if worker.awaits_replay else _POLL)
        beat()
        worker.step()
        if past is not None:
            past.check()
    if past is not None:
        past.close()
    worker.close()
    log.info("stopped", **worker.counters, **store.counters)


class HistoryWorker:
    """The state of one run. `behind` states that more messages may wait.

    `counters` counts facts `received` and `excluded`, `bad_facts`, and messages that were `replayed`, or could not be.
    A bad fact is one that no cache of ours sends, or whose wall time is unknown. Each loss ends the stretch of time of
    which all facts are stored. `lookups` counts those of a past time.
    """

    def __init__(
        self,
        feed: FactFeed,
        replays: Requester,
        store: FactStore,
        clock: Clock,
        losses: LossReporter | None = None,
        excluded: Subjects = _NOTHING,
    ) -> None:
        self.store = store
        self.behind = False
        self.lookups: Mapping[str, int] = dict.fromkeys(OUTCOMES, 0)
        self.counters: Counter[str] = Counter(received=0, excluded=0, bad_facts=0)
        self._feed = feed
        self._clock = clock
        self._losses = losses or LossReporter()
        self._excluded = None if excluded == _NOTHING else excluded
        self._pause = LogPause()
        self._follower = TurnFollower(TOPICS)
        self._differences: dict[str, int] = {}  # wall time minus the clock of a start, as its last turn stated it
        self._starts = FollowedStarts(STARTS, self._follower.forget, self.counters)
        positions, self._stretch = store.progress
        self._follower.resume(positions)
        self._starts.resume(dict.fromkeys(positions, False))
        self._start = next(iter(positions), "")  # the run of the cache whose facts are stored
        self._lost = 0  # facts that were lost before the stretch
        self._written = clock.monotonic()
        on_turn, monotonic = self._note_difference, clock.monotonic
        self._subscriber = CatchUp(
            feed.subscriber, [replays], positions, monotonic, on_turn, self.counters, settled=math.inf
        )

    @property
    def awaits_replay(self) -> bool:
        """Whether messages wait for others that the cache replays."""
        return self._subscriber.waits

    @property
    def losses(self) -> dict[str, int]:
        """The facts that were lost since the begin of this run: on the bus by topic, and those that no disk took."""
        unwritten = self.store.counters["unwritten"]
        return {**self._follower.lost, **({FACTS_UNWRITTEN: unwritten} if unwritten else {})}

    def step(self) -> None:
        """Take what has arrived, for a bounded time, and write it if it is time.

        Raises:
            Exception: A segment could not be finished by a fault of dnstrail.
        """
        until = self._clock.monotonic() + _AT_ONCE
        self.behind = True
        while self._clock.monotonic() < until:
            message = self._subscriber.receive()
            if message is None:
                self.behind = False
                break
            self._on_message(*message)
        now = self._clock.monotonic()
        if not self.behind:
            self._feed.idle(now)
        if now >= self._written + (_WRITE if self.store.waits else _IDLE):
            self._write(now)
        self.store.step()
        self._losses.note(self.losses, now)

    def close(self) -> None:
        """Write what was received, close the store, and report the last losses."""
        self._write(self._clock.monotonic())
        self.store.close()
        self._losses.close(self.losses)

    def _write(self, now: float) -> None:
        self._written = now
        self.store.commit(StoredProgress(self._positions(), self._stretch))

    def _positions(self) -> Mapping[str, Position]:
        positions = self._follower.positions()
        return {self._start: positions[self._start]} if self._start in positions else {}

    def _on_message(self, topic: str, body: bytes) -> None:
        try:
            if topic == TURN:
                self._on_turn(decode(body, Turn))
            elif topic in TOPICS:
                self._on_batch(topic, *decode_facts(topic, body, self._refuse))
        except BadMessage as error:
            self._refuse(error)

    def _on_batch(self, topic: str, batch: Batch, facts: list[FactRow[Any]]) -> None:
        if not self._starts.follow(batch, self._clock.monotonic()):
            return
        self._follower.batch(topic, batch)
        self._feed.batch(batch)
        self.counters["received"] += len(batch.events)
        difference = self._differences.get(batch.start)
        if difference is None:
            self._refuse(BadMessage(f"no turn of the start {batch.start!r:.100} states its wall time"), len(facts))
            return
        read: Callable[[FactRow[Any], str, int, str], Fact | StageFact]
        read = read_fact if topic == DNS_TRANSACTION else read_stage
        for fact in facts:
            try:
                stored = read(fact, batch.host, difference, batch.probe)
                if self._excluded is not None and self._excluded.excludes(stored):
                    self.counters["excluded"] += 1
                else:
                    self.store.add(stored)
            except BadMessage as error:
                self._refuse(error)

    def _refuse(self, error: BadMessage, count: int = 1) -> None:
        self.counters["bad_facts"] += count
        if self._pause.note(self._clock.monotonic(), count):
            structlog.get_logger().warning("bad_fact", error=str(error), count=self._pause.count)

    def _on_turn(self, turn: Turn) -> None:
        if not self._starts.follow(turn, self._clock.monotonic()):
            return
        self._follower.turn(turn, from_start=self._start not in ("", turn.start))
        self._feed.turn(turn)
        self._note_difference(turn)
        lost = self._follower.lost_events + self.store.counters["unwritten"] + self.counters["bad_facts"]
        until, stretch = min(max(turn.now + turn.difference, 0), LAST_TIME), self._stretch
        # A cache that has heard no live probe has no time.
        begun = stretch is not None and stretch.since > 0 and turn.start == self._start and until >= stretch.until
        if stretch is None or not begun or lost != self._lost:
            if stretch is not None and stretch.since < stretch.until:
                self._write(self._clock.monotonic())  # its end, which an idle host has not written yet
            self._stretch = Stretch(until, until)
        else:
            self._stretch = stretch._replace(until=until)
        if not self._start:
            published = turn.published
            self.store.knows_begin = published is not None and self.counters["received"] == sum(
                published.get(topic, 0) for topic in TOPICS
            )
        self._start, self._lost = turn.start, lost

    def _note_difference(self, turn: Turn) -> None:
        """Note the clock of a start when one of its turns arrives: the facts before it may wait for a replay."""
        self._differences.pop(turn.start, None)
        self._differences[turn.start] = turn.difference
        if len(self._differences) > STARTS:
            del self._differences[next(iter(self._differences))]
