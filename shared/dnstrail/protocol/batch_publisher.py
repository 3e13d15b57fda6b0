"""The publishing side of batches and turns: collects events by name and flushes them together."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

import msgspec

from dnstrail.bus import Publisher
from dnstrail.captured import Captured, Labels
from dnstrail.events import NET_PACKET_DNS
from dnstrail.protocol.batches import TURN, UNKNOWN, CgroupLoss, HostIdentity, Turn, WireBatch, encode
from dnstrail.protocol.event_table import BatchTable
from dnstrail.protocol.replay_window import ReplayWindow
from dnstrail.protocol.replays import Messages

MOST_EVENTS = 250  # of one batch, which a subscriber decodes in one step
#: bytes of one batch -> a further batch begins; an event that is larger by itself is lost: `event_refused`
MOST_BYTES = 128 << 10
_MOST_OF_EVENTS = MOST_BYTES - (16 << 10)  # the rest is for the counts of the batch, and for one more process
MOST_ON_WAY = 2400  # messages: 800 in the queue of a subscriber, and fewer in the buffers of the kernel and the relay
_HOP = "probe"
Losses = dict[str, dict[str, int]]  # hop -> reason -> events lost so far


class BatchPublisher:
    """The open turn of one probe start, and the messages that the bus has not taken yet.

    Invariant: messages leave in the order in which their turns were closed, each exactly once, and no turn number or
    sequence is used twice. Within a turn DNS messages leave first, so that no connection overtakes the answer that led
    to it. A batch has at most MOST_EVENTS events and MOST_BYTES. An event that fits in no batch is lost, and each turn
    counts such losses as `event_refused` of `hop`. `published` counts events by name, and `refused` the events that are
    lost here. `window`, if it is set, keeps the messages of the last turns. The memory for `on_way` is bounded:
    MOST_ON_WAY numbers.
    """

    def __init__(
        self, publisher: Publisher, start: str, *, live: bool, identity: HostIdentity = UNKNOWN, hop: str = _HOP
    ) -> None:
        self.start = start
        self.turn = 0
        self.live = live
        self._publisher = publisher
        self._identity = identity
        self._hop = hop
        self._since = 0
        self.refused = 0
        self._open: dict[tuple[str, str | None], BatchTable] = {}  # by topic and host: the last of their tables
        self._tables: list[tuple[str, str | None, BatchTable]] = []  # of the open turn
        self._last: dict[str, int] = {}
        self.published: Counter[str] = Counter()
        self._outbox: Messages = []
        self._before = 0  # events published before the turns in the outbox
        self._last_end = b""
        self._sent: deque[int] = deque(maxlen=MOST_ON_WAY)  # events before each message, until a subscriber misses one
        self.window: ReplayWindow | None = None

    def add(self, topic: str, event: Captured, host: str | None = None, probe: str = "") -> None:
        """Put an event into the open turn; without `host` it is of the host of this publisher.

        `probe` is the start to which the id of a fact refers: the same for all events of a topic and host in a turn.
        """
        table = self._open.get((topic, host))
        if table is not None and len(table.events) < MOST_EVENTS and table.add(event, _MOST_OF_EVENTS):
            return
        table = self._open[topic, host] = BatchTable(probe=probe)
        self._tables.append((topic, host, table))
        if not table.add(event, _MOST_OF_EVENTS):
            self.refused += 1

    @property
    def nameless(self) -> set[str]:
        """The ids of the containers in the open turn that have no name."""
        return {container for _, _, table in self._tables for container in table.nameless}

    def name_containers(self, name_of: Callable[[str], tuple[str, str, Labels]]) -> None:
        """Give the containers of the open turn that have no name the name, image and labels of their ids."""
        for _, _, table in self._tables:
            table.name_containers(name_of, MOST_BYTES)

    def close_turn(
        self,
        now: int,
        counters: Counter[str],
        *,
        lost: Losses | None = None,
        lost_by_cgroup: tuple[CgroupLoss, ...] = (),
        ended: bool = False,
        difference: int = 0,
        closed: float = 0.0,
    ) -> None:
        """End the turn. The next `flush` publishes its batches and the message that ends it.

        `closed` is the monotonic time, for the window.
        """
        messages: Messages = []
        if self.live and self.turn == 0:
            self._since = now
        if not self._outbox:
            self._before = self.published.total()
        for topic, host, table in sorted(self._tables, key=_is_later):
            if len(table):
                messages.append((topic, encode(self._batch(topic, host, table))))
                self.published[topic] += len(table)
        self._open.clear()
        self._tables.clear()
        losses = {hop: dict(reasons) for hop, reasons in (lost or {}).items()}
        if self.refused:
            losses.setdefault(self._hop, {})["event_refused"] = self.refused
        end = self._end(now, counters, losses, lost_by_cgroup, ended=ended, difference=difference)
        self._last_end = encode(end)
        messages.append((TURN, self._last_end))
        self._outbox += messages
        if self.window is not None:
            self.window.add(self.turn, messages, closed)
        self.turn += 1

    def flush(self) -> bool:
        """Publish the waiting messages; return False if some must wait for a slow subscriber."""
        while self._outbox:
            if not self._publisher.publish(*self._outbox[0]):
                return False
            if not self._publisher.overflowed:
                self._sent.append(self._before)
            del self._outbox[0]
        return True

    @property
    def on_way(self) -> int:
        """The greatest number of events that a subscriber may lack that has not confirmed the last turn.

        They are those of the last MOST_ON_WAY messages; of more once a subscriber has missed a message.
        """
        return self.published.total() - (self._sent[0] if self._sent else 0)

    def repeat_end(self) -> None:
        """Publish the message that ended the last turn again: a subscriber may have had no room for it."""
        self._publisher.publish(TURN, self._last_end)

    def _batch(self, topic: str, host: str | None, events: BatchTable) -> WireBatch[msgspec.Raw]:
        sequence = self._last[topic] = self._last.get(topic, -1) + 1
        return WireBatch(
            start=self.start,
            turn=self.turn,
            sequence=sequence,
            events=events.wire,
            before=dict(self.published),
            host=self._identity.host if host is None else host,
            probe=events.probe,
        )

    def _end(
        self,
        now: int,
        counters: Counter[str],
        lost: Losses,
        lost_by_cgroup: tuple[CgroupLoss, ...],
        *,
        ended: bool,
        difference: int,
    ) -> Turn:
        return Turn(
            start=self.start,
            turn=self.turn,
            last=dict(self._last),
            live=self.live,
            now=now,
            ended=ended,
            counters=dict(counters),
            published=dict(self.published),
            lost=lost,
            host=self._identity.host,
            machine_id=self._identity.machine_id,
            difference=difference,
            lost_by_cgroup=lost_by_cgroup,
            since=self._since,
            boot_id=self._identity.boot_id,
        )


def _is_later(table: tuple[str, str | None, BatchTable]) -> bool:
    topic, _, _ = table
    return topic != NET_PACKET_DNS
