"""The worker of the page: receives facts and findings, and hands them to the server, which runs in a thread."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, Protocol

import msgspec
import structlog

from dnstrail.bus import Subscriber
from dnstrail.client import LookupClient
from dnstrail.errors import BadMessage, DataSourceError
from dnstrail.events import DNS_TRANSACTION, NET_CONNECTION
from dnstrail.history.fact import read_id
from dnstrail.history.known_ids import KnownIds
from dnstrail.history.log.entries import LogEntry, LoggedQuestion
from dnstrail.log_pause import LogPause
from dnstrail.process.clock import Clock
from dnstrail.process.terminal import json_line
from dnstrail.protocol.batches import TURN, Batch, Turn, decode
from dnstrail.protocol.fact_batches import FactRow, decode_facts
from dnstrail.protocol.facts import RUNS, FactFeed
from dnstrail.protocol.losses import LossReporter
from dnstrail.protocol.turn_follower import FollowedStarts, TurnFollower
from dnstrail_web.feed import CONNECTIONS, FINDINGS, NOTICE, QUESTIONS
from dnstrail_web.health import Health
from dnstrail_web.live_entries import entries_of, line_with_domain

TOPICS: Final = (DNS_TRANSACTION, NET_CONNECTION)
FINDING: Final = "finding"  # the topic of a publisher of findings
#: findings that are kept -> the oldest is forgotten
MOST_FINDINGS: Final = 1000
#: bytes of all of them -> the oldest is forgotten
MOST_BYTES_OF_FINDINGS: Final = 8 << 20
#: bytes of a finding -> it is left out: `bad_findings`
LONGEST_FINDING: Final = 256 << 10
#: bytes of the entries of one message of the feed -> further ones are left out, with a notice
MOST_BYTES: Final = 4 << 20
_POLL: Final = 0.1  # seconds for which messages are gathered
_UNREAD: Final = 0.25  # the same while nobody reads
_FLUSH: Final = 0.25  # seconds between two messages of the feed
_AT_ONCE: Final = 0.1  # seconds for messages before the rest of the loop
_LOSSES: Final = 10.0  # seconds between two counts of the losses
_KINDS: Final = {DNS_TRANSACTION: QUESTIONS, NET_CONNECTION: CONNECTIONS}


class Readers(Protocol):
    """The readers of the feed, as another thread reaches them."""

    def wanted(self) -> bool:
        """Return whether anybody reads, or may resume."""

    def publish(self, kind: str, data: bytes) -> None:
        """Send a message with JSON as its data."""

    def skip(self) -> None:
        """Note that messages are not made for a time."""

    def check(self) -> None:
        """Raise the error that ended the server.

        Raises:
            Exception: it is a fault of dnstrail.
        """


def run(
    worker: WebWorker,
    stop: threading.Event,
    *,
    beat: Callable[[], None] = lambda: None,
) -> None:
    """Hand facts and findings to the readers until the stop signal is set.

    Raises:
        Exception: The server failed by a fault of dnstrail.
    """
    log = structlog.get_logger()
    log.info("ready")
    while not stop.is_set():
        if not worker.behind:
            # A wakeup for each message would cost more than its facts.
            stop.wait(_POLL if worker.is_read else _UNREAD)
        worker.check()
        beat()
        worker.step()
    worker.close()
    log.info("stopped", **worker.counters)


class WebWorker:
    """The state of one run. `behind` states that more messages may wait.

    `counters` counts facts `received`, `bad_facts`, `bad_findings` and entries `left_out` of the feed.
    """

    def __init__(
        self,
        facts: FactFeed,
        findings: Subscriber | None,
        readers: Readers,
        health: Health,
        kept: deque[dict[str, Any]],
        clock: Clock,
        *,
        losses: LossReporter | None = None,
        lookups: LookupClient | None = None,
    ) -> None:
        self.behind = False
        self.counters: Counter[str] = Counter(received=0, bad_facts=0, bad_findings=0, left_out=0)
        self._facts = facts
        self._findings = findings
        self._readers = readers
        self._health = health
        self._kept = kept
        self._sizes: deque[int] = deque()  # of the findings that are kept
        self._clock = clock
        self._losses = losses or LossReporter()
        self._lookups = lookups
        self._pause = LogPause()
        self._follower = TurnFollower(TOPICS)
        self._known = KnownIds()
        self._starts = FollowedStarts(RUNS, self._follower.forget, self.counters)
        self._lines: dict[str, list[str]] = {QUESTIONS: [], CONNECTIONS: [], FINDINGS: []}
        self._size: Counter[str] = Counter()
        self._left_out = 0
        self._lost = 0
        self._skipping = True  # nothing was sent since facts were left out
        self._flushed = self._counted = float("-inf")
        self._asked = False  # for the counters of the cache

    @property
    def losses(self) -> dict[str, int]:
        """The facts that were lost on the bus since the begin of this run, by topic."""
        return dict(self._follower.lost)

    @property
    def is_read(self) -> bool:
        """Whether anybody reads, or may resume."""
        return self._readers.wanted()

    def check(self) -> None:
        """Raise the error that ended the server.

        Raises:
            Exception: it is a fault of dnstrail.
        """
        self._readers.check()

    def step(self) -> None:
        """Take what has arrived, for a bounded time, and send it if it is time."""
        until = self._clock.monotonic() + _AT_ONCE
        self.behind = True
        while self._clock.monotonic() < until:
            message = self._facts.subscriber.receive()
            if message is None:
                self.behind = False
                break
            self._on_message(*message)
        self._take_findings(until)
        now = self._clock.monotonic()
        if not self.behind:
            self._facts.idle(now)
        if now >= self._flushed + _FLUSH:
            self._flush(now)
        self._count_losses(now)
        self._losses.note(self.losses, now)

    def close(self) -> None:
        """Send what is left, and report the last losses."""
        self._flush(self._clock.monotonic())
        self._losses.close(self.losses)

    def _on_message(self, topic: str, body: bytes) -> None:
        try:
            if topic == TURN:
                self._on_turn(decode(body, Turn))
            elif topic in TOPICS:
                self._on_batch(topic, *decode_facts(topic, body, self._refuse))
        except BadMessage as error:
            self._refuse(error)

    def _on_turn(self, turn: Turn) -> None:
        if not self._starts.follow(turn, self._clock.monotonic()):
            return
        self._follower.turn(turn)
        self._facts.turn(turn)

    def _on_batch(self, topic: str, batch: Batch, facts: list[FactRow[Any]]) -> None:
        if not self._starts.follow(batch, self._clock.monotonic()):
            return
        self._follower.batch(topic, batch)
        self._facts.batch(batch)
        self.counters["received"] += len(batch.events)
        last = self._follower.last_turn(batch.start)
        if last is None:
            return  # it was published before this worker was here
        entries = [*filter(self._is_new, entries_of(topic, batch, facts, last.difference, self._refuse))]
        self._health.add(entry for entry in entries if isinstance(entry, LoggedQuestion))
        if self._readers.wanted():
            for entry in entries:
                self._add_line(_KINDS[topic], line_with_domain(entry))
        elif not self._skipping:
            self._skipping = True
            self._readers.skip()

    def _is_new(self, entry: LogEntry) -> bool:
        """Return whether a fact arrives for the first time: a cache that starts anew publishes its last ones again."""
        event, _, stage = entry.id.rpartition("/")
        try:
            return self._known.add(read_id(event), stage)
        except BadMessage as error:
            self._refuse(error)
            return False

    def _add_line(self, kind: str, line: str) -> None:
        if self._size[kind] + len(line) > MOST_BYTES:
            self._left_out += 1
            return
        self._size[kind] += len(line)
        self._lines[kind].append(line)

    def _take_findings(self, until: float) -> None:
        while self._findings is not None and self._clock.monotonic() < until:
            message = self._findings.receive()
            if message is None:
                return
            _, body = message
            try:
                if len(body) > LONGEST_FINDING:
                    raise ValueError("it is too long")  # noqa: TRY301 - handled as one that cannot be read
                finding = msgspec.json.decode(body, type=dict[str, Any])
            except (msgspec.MsgspecError, ValueError, RecursionError):
                self.counters["bad_findings"] += 1
                continue
            self._keep(finding, len(body))
            self._add_line(FINDINGS, json_line(finding))

    def _keep(self, finding: dict[str, Any], size: int) -> None:
        """Keep a finding within the bounds."""
        self._kept.append(finding)
        self._sizes.append(size)
        while len(self._kept) > MOST_FINDINGS or sum(self._sizes) > MOST_BYTES_OF_FINDINGS:
            self._kept.popleft()
            self._sizes.popleft()

    def _flush(self, now: float) -> None:
        """Send the entries that have gathered, and what is missing among them."""
        self._flushed = now
        for kind, lines in self._lines.items():
            if lines:
                self._publish(kind, f"[{','.join(lines)}]".encode())
                lines.clear()
        self._size.clear()
        lost = self._follower.lost_events
        if missed := self._left_out + lost - self._lost:
            self._publish(NOTICE, json_line({"reason": "lost", "missed": missed}).encode())
            self.counters["left_out"] += self._left_out
            self._left_out, self._lost = 0, lost

    def _publish(self, kind: str, data: bytes) -> None:
        """Send a message. A reader may resume with its id, and is to be told of what is left out after it."""
        self._skipping = False
        self._readers.publish(kind, data)

    def _count_losses(self, now: float) -> None:
        """Ask the cache for the events that were lost everywhere, without waiting for its reply."""
        if self._lookups is None:
            return
        if self._asked:
            with suppress(DataSourceError):
                reply = self._lookups.reply()
                if reply is not None:
                    self._asked = False
                    self._health.count_lost(_total(reply), self._clock.wall())
        if now < self._counted + _LOSSES:
            return
        if self._asked:
            self._health.count_lost(None, self._clock.wall())
        self._counted = now
        self._asked = False
        with suppress(DataSourceError):
            self._asked = self._lookups.send("stats")

    def _refuse(self, error: BadMessage) -> None:
        self.counters["bad_facts"] += 1
        if self._pause.note(self._clock.monotonic(), 1):
            structlog.get_logger().warning("bad_fact", error=str(error), count=self._pause.count)


def _total(reply: Mapping[str, Any]) -> int | None:
    """Return the number of events that were lost at any hop, None if the reply has none."""
    try:
        return int(reply["data"]["lost"]["total"])
    except (LookupError, TypeError, ValueError):
        return None
