"""The share of a worker in the events of its group: those of its actors, and those that departed members left."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from dnstrail.errors import BadMessage
from dnstrail.events import DNS_ANSWER_CONFLICT, Event
from dnstrail.protocol.batches import Batch, Turn, decode, decode_any
from dnstrail.protocol.members import Work
from dnstrail_signatures.detection.subjects import actor_of
from dnstrail_signatures.group.handled import Takeover
from dnstrail_signatures.group.membership import Membership, Rejoin, group_name
from dnstrail_signatures.group.ownership import Actors, Share
from dnstrail_signatures.group.replays import Gap, Received, RecentBatches, Replays
from dnstrail_signatures.loading.chosen import Chosen

_AHEAD = 16  # gaps: each reply has about a MiB


class MovedBatch(NamedTuple):
    """A batch from before a change of owners: which of its actors this worker has now, and which it has no more."""

    topic: str
    batch: Batch
    gained: Actors
    given_up: Actors


class GroupShare:
    """The events that this worker handles. Without a membership it handles all.

    `rejoin` joins the group of other signatures. `replays` are the probes, which replay what departed members of the
    group did not handle. `recent` holds the batches of the last seconds. `lost` counts the turns that departed members
    left behind, and that no probe replays any more.
    """

    def __init__(
        self, membership: Membership | None = None, rejoin: Rejoin | None = None, replays: Replays | None = None
    ) -> None:
        self.recent = RecentBatches()
        self.lost = 0
        self._membership = membership
        self._rejoin = rejoin
        self._replays = replays
        self._early: dict[tuple[str, str, int], list[Share]] = {}  # batches that were replayed, and may still arrive

    @property
    def waits(self) -> bool:
        """Whether the next message has to wait for the members of the group."""
        return self._membership is not None and self._membership.waits

    @property
    def due(self) -> float:
        """The time (monotonic) by which the next step has to renew the membership."""
        return math.inf if self._membership is None else self._membership.due

    def of_batch(self, topic: str, batch: Batch, body: bytes, now: float) -> Actors | None:
        """Return the actors whose events this worker handles, None for all; keep the batch for later owners."""
        if self._membership is None:
            return None
        if topic != DNS_ANSWER_CONFLICT:
            self._membership.receive(batch.start, batch.turn, now)
        elif self._membership.waits_for(batch.start):
            return None  # the cache is ahead: each worker that does not know the owner handles the event
        self.recent.add(Received(now, topic, batch.start, batch.turn, body))
        if (early := self._early.pop((batch.start, topic, batch.sequence), None)) is not None:
            return Actors(batch.host, early)
        shares = self._membership.shares(batch.start, batch.turn)
        return None if any(share.whole for share in shares) else Actors(batch.host, shares)

    def expire(self, now: float) -> None:
        """Drop the batches that are too old, if none of them waits for the members of the group."""
        if not self.waits:
            self.recent.expire(now)

    def end_turn(self, turn: Turn, now: float) -> None:
        """Note a turn whose events were all handled."""
        if self._membership is not None:
            self.recent.begin(turn.start, turn.turn)
            self._membership.receive(turn.start, turn.turn, now)
            self._membership.handle(turn)
            if self._early:
                self._early = {key: shares for key, shares in self._early.items() if key[0] != turn.start}

    def waits_for(self, start: str) -> bool:
        """Return whether the owners of a start are not known yet."""
        return self._membership is not None and self._membership.waits_for(start)

    def forget(self, start: str) -> None:
        """Forget a start that is followed no more."""
        self.recent.forget(start)
        self._early = {key: shares for key, shares in self._early.items() if key[0] != start}
        if self._membership is not None:
            self._membership.forget(start)

    def step(self, now: float, work: Callable[[], Work], topics: Container[str]) -> Iterator[MovedBatch]:
        """Renew the membership; after a change of owners, yield the batches of these topics from before it."""
        if self._membership is not None and (takeovers := self._membership.step(now, work)):
            yield from self._moved({one.start: one for one in takeovers}, self._membership, topics)
            if self._replays is None or not self._replays.stopped:
                self._membership.confirm()

    def renew(self, now: float) -> None:
        """Renew the membership if it is time, while an event is handled: no owner changes meanwhile."""
        if self._membership is not None:
            self._membership.renew(now)

    def since(self, event: Event) -> int | None:
        """Return the wall time (ns) since when this worker owns the actor of an event, None if it is unknown."""
        if self._membership is None or event.mark is None:
            return None
        return self._membership.since(*event.mark, actor_of(event.captured, event.host_name))

    def change(self, before: Chosen, now: Chosen) -> None:
        """Join the group of other signatures than before."""
        if self._membership is None or self._rejoin is None:
            return
        if group_name("", now.classes) != group_name("", before.classes):
            self._membership.leave()
            self._membership = self._rejoin(now.classes)
            self.recent.clear()

    def leave(self) -> None:
        """End the membership."""
        if self._membership is not None:
            self._membership.leave()

    def _moved(
        self, takeovers: Mapping[str, Takeover], group: Membership, topics: Container[str]
    ) -> Iterator[MovedBatch]:
        """Yield what this worker has missed or holds of turns whose owners have changed, in its order."""
        for topic, batch in self._missed(self._gaps(takeovers.values()), topics):
            group.renew(time.monotonic())
            takeover = takeovers[batch.start]
            if batch.turn > takeover.ended:
                self._early[batch.start, topic, batch.sequence] = takeover.shares(batch.turn)
            yield _moved(topic, batch, takeover)
        for each in self.recent:
            group.renew(time.monotonic())
            if each.start in takeovers and takeovers[each.start].moves(each.turn):
                yield _moved(each.topic, decode(each.body, Batch), takeovers[each.start])

    def _missed(self, gaps: Sequence[Gap], topics: Container[str]) -> Iterator[tuple[str, Batch]]:
        """Yield the batches of these topics in some gaps, in their order; count the turns that no probe replays."""
        replays = self._replays
        if replays is not None:
            replays.begin()
        for number, gap in enumerate(gaps):
            if replays is not None:
                replays.ask_ahead(gaps[number : number + _AHEAD])
            lost = max(gap.until - gap.counted - 1, 0)
            for topic, body in () if replays is None else replays.turns(gap):
                try:
                    message = decode_any(topic, body)
                except BadMessage:
                    continue
                if isinstance(message, Turn):
                    lost -= gap.counted < message.turn < gap.until
                elif topic in topics and _is_missed(gap, message, body, self.recent):
                    yield topic, message
            self.lost += lost

    def _gaps(self, takeovers: Iterable[Takeover]) -> list[Gap]:
        gaps = [
            Gap(one.start, one.after, self.recent.first(one.start), one.counted, one.partial)
            for one in takeovers
            if one.after is not None
        ]
        return [gap for gap in gaps if gap.until > gap.after + (not gap.partial)]


def _moved(topic: str, batch: Batch, takeover: Takeover) -> MovedBatch:
    before, now = takeover.shares(batch.turn), [takeover.owners.share(batch.start, batch.turn)]
    gained = now if takeover.after is not None and batch.turn > takeover.after else []
    latest = takeover.shares(batch.turn, latest=True)  # what was given up earlier was counted then
    return MovedBatch(topic, batch, Actors(batch.host, gained, before), Actors(batch.host, latest, now))


def _is_missed(gap: Gap, batch: Batch, body: bytes, recent: RecentBatches) -> bool:
    """Return whether a batch lies in the gap, or in a partial turn after it, and is not held."""
    if not gap.after < batch.turn < gap.until + gap.partial:
        return False
    return batch.turn < gap.until - 1 or all(each.body != body for each in recent)
