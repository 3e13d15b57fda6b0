"""A group of signature workers, its cache and its probe in one process and on one clock: for tests of the protocol.

The cache, the memberships and the shares are the real ones. All between them follows docs/use/signatures.md: a
worker that dies stops between two batches, a worker that is frozen goes on with all that has arrived meanwhile.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import msgspec

from dnstrail.captured import Captured, Process
from dnstrail.errors import LookupRefused, Unavailable
from dnstrail.events import SCHED_PROCESS_EXIT
from dnstrail.protocol.batches import TURN, Batch, Turn, decode, encode
from dnstrail.protocol.lookups import OVERLOADED, JoinRequest, RefusedRequestError
from dnstrail.protocol.members import Work
from dnstrail_cache.groups.groups import Groups, SavedGroup
from dnstrail_signatures.group.membership import Membership
from dnstrail_signatures.group.replays import Replays
from dnstrail_signatures.group.share import GroupShare

TICK = 0.2  # seconds: one turn of the probe
KEPT = 450  # turns that the probe replays: 90 seconds
ACTORS = 6
_TOPICS = frozenset([SCHED_PROCESS_EXIT])
Event = tuple[str, int, int]  # the start of a probe, the turn, and the actor


class World:
    """All that happens, tick by tick. `published` and `handled` are the events so far."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.workers: list[Worker] = []
        self.cache: Groups | None = Groups(self.now)
        self.start, self.turn = "start 0", -1
        self.kept: dict[str, deque[tuple[int, list[tuple[str, bytes]]]]] = {self.start: deque(maxlen=KEPT)}
        self.published: set[Event] = set()
        self.handled: Counter[Event] = Counter()
        self.cache_frozen = self.cache_full = False
        self._requests: deque[tuple[JoinRequest, Callable[[dict[str, Any] | Exception], None]]] = deque()
        self._saved: list[SavedGroup] = []
        self._names = 0

    @property
    def clock(self) -> Any:
        """Return what stands for the module time."""
        return SimpleNamespace(monotonic=lambda: self.now)

    @property
    def lost(self) -> int:
        """The turns that the workers have counted as lost."""
        return sum(worker.share.lost for worker in self.workers)

    def missed(self) -> set[Event]:
        """Return the events that no worker has handled, of all starts that one of the living has received."""
        known = {self.start}.union(*(worker.starts for worker in self.living()))
        return {event for event in self.published - self.handled.keys() if event[0] in known}

    def begin(self, **how: Any) -> Worker:
        """Start a worker."""
        self._names += 1
        worker = Worker(self, f"worker {self._names}", **how)
        self.workers.append(worker)
        return worker

    def repeated(self) -> set[Event]:
        """Return the events that one worker has handled more than once: its signatures would count them twice."""
        return {event for worker in self.workers for event, times in worker.handled.items() if times > 1}

    def living(self) -> list[Worker]:
        """Return the workers that have not ended."""
        return [worker for worker in self.workers if worker.lives]

    def restart_probe(self) -> None:
        """Begin another start; the probe replays nothing of the one before."""
        self.start, self.turn = f"start {len(self.kept)}", -1
        self.kept = {name: deque(maxlen=KEPT) for name in [*self.kept, self.start]}

    def stop_cache(self) -> None:
        """End the cache, which saves its groups."""
        if self.cache is not None:
            self._saved = self.cache.saved(self.now, self.now)
        self.cache = None
        self._requests.clear()

    def start_cache(self, *, state: bool) -> None:
        """Start a cache that goes on from what the last one saved, or knows nothing."""
        if self.cache is None:
            self.cache = Groups(self.now)
            if state:
                self.cache.resume(
                    msgspec.convert(msgspec.to_builtins(self._saved), list[SavedGroup]), self.now, self.now
                )

    def ask(self, request: JoinRequest, take: Callable[[dict[str, Any] | Exception], None]) -> bool:
        """Send a request to the cache, which answers at once unless it is frozen; return whether there is a cache."""
        if self.cache is not None:
            self._requests.append((request, take))
            self._answer()
        return self.cache is not None

    def _answer(self) -> None:
        while self._requests and self.cache is not None and not self.cache_frozen:
            request, take = self._requests.popleft()
            take(LookupRefused(OVERLOADED, "full") if self.cache_full else self._joined(self.cache, request))

    def reached(self, start: str) -> int | None:
        """Return the last turn of a start, which the cache has received."""
        return self.turn if start == self.start else None

    def _joined(self, cache: Groups, request: JoinRequest) -> dict[str, Any] | Exception:
        try:
            return {"data": msgspec.to_builtins(cache.join(request, self.now, self.reached))}
        except RefusedRequestError as error:
            return LookupRefused(error.code, str(error))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds / TICK)):
            self.now += TICK
            self._publish()
            self._answer()
            for worker in self.workers:
                worker.work()

    def _publish(self) -> None:
        self.turn += 1
        messages = []
        for number in range(2):
            events = [Captured(1, process=Process(actor)) for actor in range(number, ACTORS, 2)]
            batch = Batch(self.start, self.turn, 2 * self.turn + number, events)
            messages.append((SCHED_PROCESS_EXIT, encode(batch)))
        turn = Turn(self.start, self.turn, {}, live=True, now=int(self.now * 1e9))
        messages.append((TURN, encode(turn)))
        self.kept[self.start].append((self.turn, messages))
        self.published |= {(self.start, self.turn, actor) for actor in range(ACTORS)}
        for worker in self.workers:
            worker.receive(*messages)


class Worker:
    """One worker. `pace` is the number of batches that it handles in one tick."""

    def __init__(self, world: World, name: str, pace: int = 50) -> None:
        self.name, self.pace = name, pace
        self.frozen = False
        self.lives = True
        self.handled: Counter[Event] = Counter()
        self._world = world
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._subscribed = False
        self.starts: set[str] = set()  # of which it has received something
        self._client = _Client(world)
        self._membership = Membership(self._client, "group", name, world.now)  # type: ignore[arg-type]
        self.share = GroupShare(self._membership, replays=_Replays(world))  # type: ignore[arg-type]
        self._run = self._live()

    def receive(self, *messages: tuple[str, bytes]) -> None:
        """Keep messages until the worker reads them."""
        if self.lives and self._subscribed:
            self._waiting += messages

    def work(self) -> None:
        """Do the work of one tick."""
        if self.lives and not self.frozen:
            for _ in range(self.pace):
                if next(self._run):
                    break

    def kill(self) -> None:
        """End without a word."""
        self.lives = False

    def leave(self) -> None:
        """End in order: a worker notes the stop signal between two messages and turns."""
        if self.lives and not self.frozen:
            self.share.leave()
            self.lives = False

    def _live(self) -> Iterator[bool]:
        """Yield after each batch, and True if there is nothing to do."""
        while self._membership.waits:
            self._membership.step(self._world.now, Work)
            yield True
        self._subscribed = True
        while True:
            while self._waiting and not self.share.waits:
                yield from self._handle_message(*self._waiting.popleft())
            self.share.expire(self._world.now)
            yield from self._share_work()
            yield True

    def _handle_message(self, topic: str, body: bytes) -> Iterator[bool]:
        now = self._world.now
        self.starts.add(decode(body, Turn if topic == TURN else Batch).start)
        if topic == TURN:
            self.share.end_turn(decode(body, Turn), now)
            yield from self._share_work()
        else:
            batch = decode(body, Batch)
            self._handle(batch, self.share.of_batch(topic, batch, body, now))
            yield False

    def _share_work(self) -> Iterator[bool]:
        for moved in self.share.step(self._world.now, Work, _TOPICS):
            self._handle(moved.batch, moved.gained)
            yield False

    def _handle(self, batch: Batch, actors: Any) -> None:
        for event in batch.events:
            if event.process and (actors is None or actors.owns_process(event.process)):
                self._world.handled[batch.start, batch.turn, event.process.pid] += 1
                self.handled[batch.start, batch.turn, event.process.pid] += 1


class _Client:
    """The connection of a worker to the cache. A reply is read in the next step."""

    def __init__(self, world: World) -> None:
        self.timeout = 0.0
        self._world = world
        self._reply: dict[str, Any] | Exception | None = None
        self._sent = 0

    def send(self, op: str, **fields: Any) -> bool:
        """Send a request; the reply to an earlier one is not read any more."""
        self._sent += 1
        self._reply = None
        request = msgspec.convert({**fields, "op": op, "user": 1}, JoinRequest)
        return self._world.ask(request, partial(self._take, self._sent))

    def _take(self, number: int, reply: dict[str, Any] | Exception) -> None:
        if number == self._sent:
            self._reply = reply

    def reply(self) -> dict[str, Any] | None:
        """Return the reply to the last request, None while there is none."""
        reply, self._reply = self._reply, None
        if isinstance(reply, Exception):
            raise reply
        return reply

    def request(self, op: str, **fields: Any) -> dict[str, Any]:
        """Send a request, and return its reply."""
        self.send(op, **fields)
        if (reply := self.reply()) is None:
            raise Unavailable("cache", 1.0)
        return reply

    def close(self) -> None:
        """Do nothing."""


class _Replays(Replays):
    """The probe, which replays the turns that it keeps."""

    stopped = False

    def __init__(self, world: World) -> None:
        self._world = world

    def begin(self) -> None:
        """Begin anew."""

    def ask_ahead(self, gaps: Any) -> None:
        """Ask for nothing ahead."""

    def turns(self, gap: Any) -> Iterator[tuple[str, bytes]]:
        for number, messages in [*self._world.kept.get(gap.start, ())]:
            if gap.after < number <= gap.until:
                yield from messages
