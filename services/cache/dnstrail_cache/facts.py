"""The facts that the image learned, published in turns while a subscriber wants them (docs/use/lookups.md)."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate

from dnstrail.bus import Publisher, Server
from dnstrail.captured import Captured, Flow
from dnstrail.events import DNS_TRANSACTION, FACT_NAMES, OUTCOMES
from dnstrail.image.answer import Answer
from dnstrail.image.bounds import SECOND
from dnstrail.image.facts.transaction import Transaction
from dnstrail.image.queries import WINDOW, address_of
from dnstrail.protocol.batch_publisher import BatchPublisher
from dnstrail.protocol.batches import HostIdentity
from dnstrail.protocol.facts import HOPS, packed_fact
from dnstrail.protocol.replay_window import KEPT, ReplayWindow
from dnstrail_cache.state.cache_state import CacheState

HEARTBEAT = 1.0  # seconds between turns without facts
_GATHER, _ON_REQUEST = 0.05, 0.01  # seconds for which a turn gathers facts, also if a subscriber waits for its end
_ADVANCE = 0.25  # seconds between two looks for questions that nobody has answered in time
#: bytes of the relations of one fact -> further ones are only counted, in `left_out`
MOST_BYTES = 64 << 10  # a fact fits in a batch
_FEW = 16  # relations that keep within it, as long as names can be
_ADDRESS = (4, 16)  # bytes: a probe may send others
_HOPS = {hop: number for number, hop in enumerate(HOPS)}
_OUTCOMES = {outcome: number for number, outcome in enumerate(OUTCOMES)}


class FactsPublisher:
    """The publishing side of the facts of one run of the cache, in batches and turns like those of a probe.

    The image collects facts while a subscriber wants them, and as long as the window keeps turns for a subscriber that
    restarts: also from the begin of a cache that goes on from a state, whose subscribers connect anew. Otherwise they
    cost nothing. `counters` of the state count `facts_published`, `facts_refused` that fit in no batch, and
    `facts_evicted`: turns that the window gave up before their time.
    """

    def __init__(self, publisher: Publisher, replays: Server, identity: HostIdentity, state: CacheState) -> None:
        self._publisher = publisher
        self._replays = replays
        self._state = state
        self._batches = BatchPublisher(publisher, identity.new_start(), live=False, identity=identity, hop="cache")
        self._batches.window = self._window = ReplayWindow(self._batches.start)
        now = state.clock.monotonic()
        self._subscribed = now if state.begun else float("-inf")  # when there was a subscriber last (s)
        self._closed = float("-inf")  # when the last turn was closed
        self._advanced = float("-inf")  # when the image was told how far the events have come
        self._gathered = False  # whether the open turn has facts
        state.follower.own = self._batches.start
        self._note_subscribers(now)

    @property
    def refused(self) -> int:
        """The number of connections that were refused or closed."""
        return self._publisher.refused + self._publisher.disconnected + self._replays.refused

    def step(self) -> None:
        """Take the facts of the image, end the open turn if it is time, and serve subscribers that restarted."""
        now = self._state.clock.monotonic()
        self._take()
        self._window.serve(self._replays)
        passed = now - self._closed
        gathered = self._gathered and passed >= _GATHER
        if passed >= HEARTBEAT or gathered or (self._window.awaited and passed >= _ON_REQUEST):
            self._close_turn(now)
        self._note_subscribers(now)  # whoever received the turn receives the facts of all later events

    def close(self) -> None:
        """Publish what is left, and the last turn."""
        self._take()
        self._close_turn(self._state.clock.monotonic(), ended=True)

    def _note_subscribers(self, now: float) -> None:
        """Let the image collect facts only while a subscriber receives them, or may ask for them again."""
        if any(self._publisher.subscribers(name) for name in FACT_NAMES):
            self._subscribed = now
        image, wanted = self._state.image, now - self._subscribed <= KEPT
        if wanted and image.transactions is None:
            image.begin_transactions()
        elif not wanted:
            image.transactions = None

    def _take(self) -> None:
        state, transactions = self._state, self._state.image.transactions
        if transactions is None:
            return
        is_over, now = _is_over(state), state.clock.monotonic()
        if is_over or now >= self._advanced + _ADVANCE:
            self._advanced = now
            transactions.advance(_heard_until(state) + (2 * WINDOW if is_over else 0))
        ended, refused = transactions.take(), self._batches.refused
        for transaction in ended:
            self._batches.add(DNS_TRANSACTION, captured_of(transaction), transaction.host)
        if ended:
            state.counters["facts_published"] += len(ended) - (self._batches.refused - refused)
            self._gathered = True
            if is_over:
                self._take()

    def _close_turn(self, now: float, *, ended: bool = False) -> None:
        state, counters = self._state, self._state.counters
        self._batches.live = state.live
        self._batches.close_turn(
            max(state.now, 0),
            Counter(),
            ended=ended,
            difference=state.stream.difference() if state.live else 0,
            closed=now,
        )
        self._batches.flush()
        self._closed, self._gathered = now, False
        for name, count in (("facts_refused", self._batches.refused), ("facts_evicted", self._window.evicted)):
            if count:
                counters[name] = count


def _is_over(state: CacheState) -> bool:
    """Return whether all files were read to their ends: nothing answers the questions that still wait."""
    return not state.live and bool(state.probes) and all(probe.ended for probe in state.probes)


def _heard_until(state: CacheState) -> int:
    """Return the time up to which the events of all probes that are heard were applied.

    A cache that is behind, or receives a replay, has not applied the answers to some questions yet.
    """
    silent = {*state.silent_probes}
    heard = [probe for probe in state.probes if probe.live and not probe.ended and probe.start not in silent]
    return min((probe.now + (state.stream.shift_of(probe.start) or 0) for probe in heard), default=state.now)


def captured_of(transaction: Transaction) -> Captured:
    """Return a transaction as it travels on the bus, at the time of its end; what is unknown, or usual, is left out."""
    one, flow = transaction, transaction.flow
    relations, left_out = _packed(one.name, one.answer)
    values = [
        one.id,
        None,  # the transport is that of the flow
        *((None, None, None) if flow is None else _where(flow)),
        _HOPS[one.hop],
        one.asked_for or None,
        one.name,
        one.type,
        _OUTCOMES[one.outcome],
        one.rcode if one.rcode >= 0 else None,
        one.tries,
        max(one.ended - one.asked, 0) if one.asked else None,
        relations,
        left_out or None,
        one.admitted if relations else None,
        one.matched,
        one.doubted or None,
        one.foreign,
    ]
    if flow is not None:
        source, port = flow.source, flow.source_port
        flow = Flow(source, port, flow.destination, flow.destination_port, flow.transport, 0, flow.namespace)
    return packed_fact(one.ended, flow, one.process, values)


def _where(flow: Flow) -> tuple[int | None, bytes | None, int | None]:
    """Return the socket, and address and port of the server that the asker meant, if NAT led to another one."""
    meant, port = flow.meant, flow.destination_port
    if meant and (flow.egress or not flow.socket):  # a server's socket does not show what the asker meant
        resolver = address_of(meant, flow.meant_port or port)
        if len(resolver[0]) in _ADDRESS and resolver != address_of(flow.destination, port):
            return flow.socket or None, *resolver
    return flow.socket or None, None, None


def _packed(name: str, answer: Answer | None) -> tuple[list[tuple[int | str, ...]], int]:
    """Return the relations that keep within MOST_BYTES as they travel, and the number of the others."""
    packed: list[tuple[int | str, ...]] = []
    if answer is None:
        return packed, 0
    edges = answer.edges
    if len(edges) > _FEW:
        sizes = accumulate(len(owner) + len(target) for owner, _, target in edges)
        edges = edges[: sum(size <= MOST_BYTES for size in sizes)]
    for (owner, kind, target), life in zip(edges, answer.lives, strict=False):
        ttl = life // SECOND
        packed.append((kind, target, ttl) if owner == name else (kind, target, ttl, owner))
        name = target
    return packed, len(answer.edges) - len(edges)
