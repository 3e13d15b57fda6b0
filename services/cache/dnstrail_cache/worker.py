"""The cache worker: one loop that applies events, publishes conflicts, and answers lookups in turn."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import msgpack
import structlog
from msgspec.structs import replace

from dnstrail.bus import Bus, Endpoint, Publisher, Pusher, Requester, ServedRequest, Server, Subscriber
from dnstrail.captured import Captured
from dnstrail.events import DNS_ANSWER_CONFLICT, Event
from dnstrail.image import Bounds, Image
from dnstrail.process.clock import Clock
from dnstrail.protocol.batches import Batch, Turn, encode, may_be_missed
from dnstrail.protocol.catch_up import CatchUp
from dnstrail.protocol.keyed_subscriber import KeyedSubscriber
from dnstrail.protocol.lookups import (
    BAD_REQUEST,
    OVERLOADED,
    DumpRequest,
    JoinRequest,
    LostRequest,
    RefusedRequestError,
    Request,
    decode_request,
    encode_data,
    encode_error,
)
from dnstrail.protocol.replays import TurnRequests
from dnstrail.tracee.event_shape import event_map
from dnstrail.users import service_ids
from dnstrail_cache.facts import FactsPublisher
from dnstrail_cache.feed.feeder import TOPICS, Feeder
from dnstrail_cache.lookups.answers import IncompleteHistory, answer
from dnstrail_cache.lookups.past_lookups import PastLookups
from dnstrail_cache.lookups.pending_lookups import PendingLookup, PendingLookups, is_complete
from dnstrail_cache.state.cache_state import CacheState
from dnstrail_cache.state.snapshots import Snapshots, begin_live

MakeFacts = Callable[[CacheState], FactsPublisher]
PUBLISHED = "conflicts_published"  # the counter that numbers the batches, so that a subscriber detects a loss
PATIENCE = 0.2  #: seconds to wait for the turns of `after` -> `complete` is false: `incomplete`
_IDLE = 1.0  # seconds between two steps if nothing arrives
_POLL = 0.05  # the same while facts gather, turns are replayed, or lookups wait for the history
_SAVE = 0.02  # the same while a snapshot encodes: with its steps of 2 ms it takes a tenth of the time
_SOON = 0.005  # the same while lookups wait
_GATHER = 0.03  # seconds between two steps that no request needs: to wake up for each turn costs more than to apply it
_GATHER_FEW = 0.09  # the same after a step of few events: they are applied before the reply to any request
_FEW = 20  # events
_PUBLISH = 0.01  # seconds between two looks for facts to publish while events wait
_REQUESTS_AT_ONCE = 256
_AT_ONCE = 0.05  # seconds for the requests of one step: events wait meanwhile
_EVENTS = 0.0001, 0.02  # seconds for the events of one step, at least and at most: requests wait meanwhile
__all__ = ["TOPICS", "run"]


class Conflicts:
    """Reports each conflict at once, as a batch of its own with the mark of its answer."""

    def __init__(self, state: CacheState, publisher: Publisher | None, pusher: Pusher | None) -> None:
        self._state = state
        self._publisher = publisher
        self._pusher = pusher

    def report(self, captured: Captured, batch: Batch) -> None:
        """Report an answer that conflicts with another, and arrived in this batch."""
        counters = self._state.counters
        if self._publisher is not None and self._publisher.subscribers(DNS_ANSWER_CONFLICT):
            alone = Batch(batch.start, batch.turn, counters[PUBLISHED], [captured], host=batch.host)
            counters[PUBLISHED] += 1
            self._publisher.publish(DNS_ANSWER_CONFLICT, encode(alone))
        if self._pusher is not None:
            self._push(self._pusher, captured, batch)

    def _push(self, pusher: Pusher, captured: Captured, batch: Batch) -> None:
        difference = self._state.follower.difference(batch.start)
        event = Event(DNS_ANSWER_CONFLICT, captured, host_name=batch.host, difference=difference)
        try:
            body = msgpack.packb(event_map(event, parse_arguments=True))
        except (TypeError, ValueError, OverflowError):  # an address, a time or an argument that no probe of ours sends
            self._state.counters["bad_bus_message"] += 1
            return
        if not pusher.push(body):
            structlog.get_logger().warning("conflict_not_delivered")


def run(
    bus: Bus,
    subscriber: Subscriber,
    server: Server,
    clock: Clock,
    bounds: Bounds,
    stop: threading.Event,
    *,
    unmatched: str = "auto",
    conflicts: Publisher | None = None,
    pusher: Pusher | None = None,
    beat: Callable[[], None] = lambda: None,
    observe: Callable[[CacheState], None] = lambda _: None,
    state_file: Path | None = None,
    replays: Sequence[Requester] = (),
    turn_requests: TurnRequests | None = None,
    boot_id: str = "",
    facts: MakeFacts | None = None,
    past: PastLookups | None = None,
) -> None:
    """Apply events and answer lookups until the stop signal is set; nothing that a client sends ends the loop.

    Answers that conflict with others are counted, published by `conflicts`, and sent to `pusher`. `beat` is called
    while the loop runs, and `observe` once before it. The image goes on from `state_file`, and is saved there. The
    probes replay at `replays` what they published before, and end by `turn_requests` the turns for which lookups wait.
    `boot_id` is that of this host. `facts` makes the publisher of the facts that the image learns. `past` forwards the
    lookups of a time that the image does not remember.
    """
    state = CacheState(Image(bounds, unmatched), clock, boot_id)
    snapshots = None if state_file is None else Snapshots(state_file, state)
    if snapshots is not None:
        snapshots.load()
    keyed = KeyedSubscriber(subscriber, clock.monotonic, state.counters)
    catch_up = None
    if state_file is not None or replays:
        catch_up = _caught_up(keyed, replays, state, may_be_missed if state_file is None else lambda _: True)
    feeder = Feeder(catch_up or keyed, state, Conflicts(state, conflicts, pusher).report)
    worker = _Worker(server, feeder, state, beat, turn_requests, facts, past)
    observe(state)
    structlog.get_logger().info("ready", size=bounds.size, grace=bounds.grace)
    gathered = 0.0
    while not stop.is_set():
        if not worker.behind:
            answering, may_gather = worker.answering, not (replays or len(worker.pending))
            left = gathered - clock.monotonic() if may_gather else 0.0
            most = _SAVE if snapshots is not None and snapshots.encodes else _POLL if replays else _IDLE
            if left <= 0 or not bus.wait(*answering, timeout=min(left, most)):
                longest = min(worker.longest, most)
                bus.wait(subscriber, *answering, *replays, timeout=longest)
        beat()
        state.follower.awaits_starts = catch_up is not None and not catch_up.settled
        if replays and not state.follower.awaits_starts:  # a thousand of them cost more than idle probes
            replays = _closed(replays)
        before = state.applied.total()
        worker.step()
        applied = state.applied.total() - before
        gathers = min(_GATHER_FEW, worker.longest) if applied < _FEW else _GATHER
        gathered = clock.monotonic() + gathers if applied or worker.behind else 0.0
        if snapshots is not None:
            if snapshots.begins:
                feeder.complete()
            snapshots.step()
    if snapshots is not None:
        feeder.complete()
        snapshots.close()
    worker.close()
    structlog.get_logger().info("stopped", **state.image.counters)


def _closed(replays: Sequence[Requester]) -> Sequence[Requester]:
    """Close the connections for replays, and return those that are still open: none."""
    for replay in replays:
        replay.close()
    return ()


def _caught_up(
    subscriber: Subscriber, replays: Sequence[Requester], state: CacheState, is_asked_for: Callable[[Turn], bool]
) -> CatchUp:
    """Return a subscriber that first receives what was published before it subscribed, and since the last run."""

    def on_turn(turn: Turn) -> None:  # a replayed turn is late, and shows no difference of clocks
        if turn.live and state.starts.follow(turn, state.clock.monotonic()):
            begin_live(state)
            state.stream.note_turn(turn)

    positions, monotonic = state.follower.positions(), state.clock.monotonic
    return CatchUp(subscriber, replays, positions, monotonic, on_turn, state.counters, is_asked_for)


class _Worker:
    """The answering half of the loop. Every request gets exactly one reply, at once or by its deadline.

    `behind` states that more events may wait, or lookups that can be answered. Events get as much time as the requests
    of the step before, within bounds.
    """

    def __init__(
        self,
        server: Server,
        feeder: Feeder,
        state: CacheState,
        beat: Callable[[], None],
        turn_requests: TurnRequests | None = None,
        facts: MakeFacts | None = None,
        past: PastLookups | None = None,
    ) -> None:
        self.pending = PendingLookups()
        self.behind = False
        self._events = _EVENTS[0]  # seconds for the events of the next step
        self._published = float("-inf")  # when the facts were published last
        self._unpublished = False  # whether events were applied since
        self._server = server
        self._feeder = feeder
        self._state = state
        self._beat = beat
        self._turn_requests = turn_requests or TurnRequests((), 0)
        self._facts = facts and facts(state)
        self._past = past

    @property
    def answering(self) -> tuple[Endpoint, ...]:
        """The ends at which requests arrive, and the replies of the history."""
        of_facts = () if self._facts is None else (self._facts.replays,)
        return (self._server, *of_facts, *(() if self._past is None else self._past.waiting_ends))

    @property
    def longest(self) -> float:
        """The seconds after which something is due, if nothing arrives."""
        if len(self.pending):
            return _SOON
        of_past = self._past is not None and len(self._past) > 0
        return _POLL if of_past or (self._facts is not None and self._facts.gathers) else _IDLE

    def step(self) -> None:
        """Apply some events, then answer lookups: each finds the events of its marks, and maybe later ones.

        The facts of the events are published before a reply, which counts them, and else every 10 ms at most.
        """
        self.behind = self._feeder.drain(self._events)
        self._unpublished |= self._feeder.applied
        began, first = self._state.clock.monotonic(), self._server.receive()
        answers = first is not None or len(self.pending) > 0
        idle = first is None and not self.behind
        if idle or (answers and self._unpublished) or began >= self._published + _PUBLISH:
            self._published, self._unpublished = began, False
            self._publish()
            began = self._state.clock.monotonic()
        self._answer_waiting(began, first)
        self._events = min(max(self._state.clock.monotonic() - began, _EVENTS[0]), _EVENTS[1])
        self.behind = self.behind or self.pending.has_ready

    def _publish(self) -> None:
        """Publish the facts of the events, and note what was refused."""
        if self._facts is not None:
            self._facts.step()
        if refused := self._server.refused + (self._facts.refused if self._facts else 0):
            self._state.counters["clients_refused"] = refused

    def close(self) -> None:
        """Publish the last facts."""
        if self._facts is not None:
            self._facts.close()

    def _answer_waiting(self, now: float, served: ServedRequest | None) -> None:
        """Answer lookups that have waited for half of the time at most, and requests for the rest of it."""
        clock = self._state.clock
        self.pending.look(self._state.follower, self._state.skipped, now)
        while self.pending.has_ready and clock.monotonic() < now + _AT_ONCE / 2:
            lookup, complete = self.pending.take_ready()
            self._answer(lookup.served, lookup.request, lookup.deadline - PATIENCE, complete=complete)
        self._answer_past(now)
        answered = 0
        while served is not None:
            self._serve(served)
            answered += 1
            over = answered == _REQUESTS_AT_ONCE or clock.monotonic() >= now + _AT_ONCE
            served = None if over else self._server.receive()

    def _serve(self, served: ServedRequest) -> None:
        self._state.counters["requests"] += 1
        began = self._state.clock.monotonic()
        try:
            _check(served)
            request = _of_client(served, decode_request(served.body))
            complete = is_complete(request, self._state.follower, self._state.skipped)
            if complete is None:
                self._park(served, request, began)
                return
            if self._past is not None and self._past.forward(served, request, self._state, began):
                self._state.counters["past"] += 1
                return
        except RefusedRequestError as refused:
            self._refuse(served, refused)
            return
        self._answer(served, request, began, complete=complete)

    def _answer_past(self, now: float) -> None:
        """Hand on the replies of the history, and answer the lookups that it did not."""
        for lookup, reply in self._past.take(now) if self._past is not None else ():
            if reply is not None:
                self._hand_on(lookup.served, reply, complete=True)
                self._state.note_answered(lookup.request, self._state.clock.monotonic() - lookup.began)
            else:
                self._state.counters["past_unanswered"] += 1
                self._answer(lookup.served, lookup.request, lookup.began, complete=True)

    def _park(self, served: ServedRequest, request: Request, began: float) -> None:
        self.pending.add(PendingLookup(served, request, began + PATIENCE))
        self._state.counters["parked"] += 1
        for mark in request.after:
            last = self._state.follower.last(mark[0])
            if last is not None and mark[1] > last.turn:
                self._turn_requests.ask(mark, last.turn)

    def _answer(self, served: ServedRequest, request: Request, began: float, *, complete: bool) -> None:
        """Answer a request that arrived at `began`."""
        self._beat()
        self._reply(served, request, complete=complete)
        self._state.note_answered(request, self._state.clock.monotonic() - began)

    def _reply(self, served: ServedRequest, request: Request, *, complete: bool) -> None:
        if not complete:
            self._state.counters["incomplete"] += 1
        try:
            data = answer(request, self._state)
        except RefusedRequestError as refused:
            self._refuse(served, refused, complete=complete)
            return
        history = not isinstance(data, IncompleteHistory)
        reply = encode_data(data if history else data.data, complete=complete, history=history)
        self._hand_on(served, reply, complete=complete)

    def _hand_on(self, served: ServedRequest, reply: bytes, *, complete: bool) -> None:
        if not served.reply(reply):
            unread = RefusedRequestError(OVERLOADED, "earlier replies to this client wait to be read")
            self._refuse(served, unread, complete=complete)

    def _refuse(self, served: ServedRequest, refused: RefusedRequestError, *, complete: bool = True) -> None:
        self._state.counters[refused.code] += 1
        served.reply(encode_error(refused, complete=complete))


def _of_client(served: ServedRequest, request: Request) -> Request:
    """Return a request with the user of its connection, where that matters.

    Raises:
        RefusedError: this host alone may ask for a dump, and on this host the users of the service alone may join.
    """
    if isinstance(request, JoinRequest) and not served.remote and served.user not in service_ids():
        raise RefusedRequestError(BAD_REQUEST, "join: on this host only root and the users of dnstrail may join")
    if isinstance(request, JoinRequest | LostRequest):
        return replace(request, user=served.remote or served.user)
    if isinstance(request, DumpRequest) and served.remote:
        raise RefusedRequestError(BAD_REQUEST, "dump: it is answered on the host of the cache alone")
    return request


def _check(served: ServedRequest) -> None:
    if served.fault:
        raise RefusedRequestError(BAD_REQUEST, served.fault)
