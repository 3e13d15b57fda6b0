"""The facts that the image learned, published in turns while a subscriber wants them (docs/use/lookups.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from ipaddress import ip_address
from itertools import accumulate
from typing import Any, TypeVar

from dnstrail.bus import Publisher, Server
from dnstrail.captured import LAST_TIME, Captured, Flow
from dnstrail.events import DNS_TRANSACTION, FACT_NAMES, NET_CONNECTION, OUTCOMES
from dnstrail.image.answer import Answer
from dnstrail.image.binding.bindings import OPENED, RESULT
from dnstrail.image.bounds import SECOND
from dnstrail.image.facts.connections import ConnectionFact
from dnstrail.image.facts.transaction import Transaction
from dnstrail.image.queries import WINDOW, address_of
from dnstrail.protocol.batch_publisher import BatchPublisher
from dnstrail.protocol.batches import TURN, HostIdentity, Turn
from dnstrail.protocol.facts import HOPS, EventPlace, event_place, packed_fact, stage_place
from dnstrail.protocol.replay_window import KEPT, ReplayWindow
from dnstrail_cache.state.cache_state import CacheState

HEARTBEAT = 1.0  # seconds between turns without facts
_GATHER, _ON_REQUEST = 0.05, 0.01  # seconds for which a turn gathers facts, also if a subscriber waits for its end
_ADVANCE = 0.25  # seconds between two looks for questions that nobody has answered in time
#: bytes of the relations of one fact -> further ones are only counted, in `left_out`
MOST_BYTES = 64 << 10  # a fact fits in a batch
_FEW = 16  # relations that keep within it, as long as names can be
_ADDRESSES = 1024  # whose packed form is remembered
_ADDRESS = (4, 16)  # bytes: a probe may send others
_HOPS = {hop: number for number, hop in enumerate(HOPS)}
_OUTCOMES = {outcome: number for number, outcome in enumerate(OUTCOMES)}
_NOWHERE: tuple[int | None, bytes | None, int | None] = (None, None, None)  # the result of `_where` without a flow
_Fact = TypeVar("_Fact", Transaction, ConnectionFact)


class FactsPublisher:
    """The publishing side of the facts of one run of the cache, in batches and turns like those of a probe.

    The image collects the facts of a name while a subscriber wants them, and as long as the window keeps turns for a
    subscriber that restarts: also from the begin of a cache that goes on from a state, whose subscribers connect anew.
    Otherwise they cost nothing. `counters` of the state count `facts_published`, `facts_refused` that fit in no batch,
    and `facts_evicted`: turns that the window gave up before their time.
    """

    def __init__(self, publisher: Publisher, replays: Server, identity: HostIdentity, state: CacheState) -> None:
        self._publisher = publisher
        self.replays = replays
        self._state = state
        self._batches = BatchPublisher(publisher, identity.new_start(), live=False, identity=identity, hop="cache")
        self._batches.window = self._window = ReplayWindow(self._batches.start)
        now = state.clock.monotonic()
        # When there was a subscriber of each name last (s).
        self._subscribed = dict.fromkeys(FACT_NAMES, now if state.begun else float("-inf"))
        self._closed = float("-inf")  # when the last turn was closed
        self._advanced = float("-inf")  # when the image was told how far the events have come
        self._gathered = False  # whether the open turn has facts
        self._probes: dict[str, str] = {}  # by host, the start to which the batches of the open turn refer
        self._followers = 0  # the subscribers that were sent a turn
        state.follower.own = self._batches.start
        self._note_subscribers(now)

    @property
    def refused(self) -> int:
        """The number of connections that were refused or closed."""
        return self._publisher.refused + self._publisher.disconnected + self.replays.refused

    @property
    def gathers(self) -> bool:
        """Whether the open turn has facts."""
        return self._gathered

    def step(self) -> None:
        """Take the facts of the image, end the open turn if it is time, and serve subscribers that restarted."""
        now = self._state.clock.monotonic()
        self._take()
        self._window.serve(self.replays)
        passed = now - self._closed
        gathered = self._gathered and passed >= _GATHER
        followers = self._publisher.subscribers(TURN)
        awaited = self._window.awaited or followers > self._followers  # a new subscriber waits for its first turn
        self._followers = min(followers, self._followers)
        closes = passed >= HEARTBEAT or gathered or (awaited and passed >= _ON_REQUEST)
        if closes:
            self._close_turn(now)
            self._followers = followers
        if closes or awaited:
            self._note_subscribers(now)  # whoever received the turn receives the facts of all later events

    def close(self) -> None:
        """Publish what is left, and the last turn."""
        if self._state.image.connections is not None:
            self._state.image.connections.advance(LAST_TIME)  # no bytes come any more
        self._take()
        self._close_turn(self._state.clock.monotonic(), ended=True)

    def _note_subscribers(self, now: float) -> None:
        """Let the image collect facts only while a subscriber receives them, or may ask for them again."""
        for name in FACT_NAMES:
            if self._publisher.subscribers(name):
                self._subscribed[name] = now
        image, wanted = self._state.image, {name for name, last in self._subscribed.items() if now - last <= KEPT}
        if DNS_TRANSACTION not in wanted:
            image.transactions = None
        elif image.transactions is None:
            image.begin_transactions()
        if NET_CONNECTION not in wanted:
            image.end_connections()
        elif image.connections is None:
            image.begin_connections()

    def _take(self) -> None:
        state, transactions, connections = self._state, self._state.image.transactions, self._state.image.connections
        if transactions is None and connections is None:
            return
        is_over, now = _is_over(state), state.clock.monotonic()
        if is_over or now >= self._advanced + _ADVANCE:
            self._advanced = now
            until, behind = _heard(state)
            until += 2 * WINDOW if is_over else 0
            if transactions is not None:
                transactions.advance(until, behind)
            if connections is not None:
                for start, heard in _gone(state):
                    connections.end_start(start, heard)
                connections.advance(until, behind)
        refused = self._batches.refused
        taken = self._add(DNS_TRANSACTION, transactions.take(), captured_of) if transactions is not None else 0
        taken += self._add(NET_CONNECTION, connections.take(), captured_stage) if connections is not None else 0
        if taken:
            state.counters["facts_published"] += taken - (self._batches.refused - refused)
            self._gathered = True
            if is_over:
                self._take()

    def _add(self, topic: str, facts: list[_Fact], captured: Callable[[_Fact, str], Captured]) -> int:
        """Put facts into the open turn, each in its form on the bus; return their number."""
        probes = self._probes
        for fact in facts:
            probe = probes.get(fact.host)
            if probe is None:
                probe = probes[fact.host] = fact.id.partition("/")[0]
            self._batches.add(topic, captured(fact, probe), fact.host, probe)
        return len(facts)

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
        self._probes.clear()
        self._closed, self._gathered = now, False
        for name, count in (("facts_refused", self._batches.refused), ("facts_evicted", self._window.evicted)):
            if count:
                counters[name] = count


def _is_over(state: CacheState) -> bool:
    """Return whether all files were read to their ends: nothing answers the questions that still wait."""
    return not state.live and bool(state.probes) and all(probe.ended for probe in state.probes)


def _heard(state: CacheState) -> tuple[int, dict[str, int]]:
    """Return the time up to which the events of the foremost host were applied, and those of the hosts behind it.

    A cache that is behind, or receives a replay, has not applied the answers to some questions yet.
    """
    silent, ends = {*state.silent_probes}, dict[str, int]()
    for probe in state.probes:
        if probe.live and not probe.ended and probe.start not in silent:
            end = _end_of(probe, state)
            ends[probe.host] = min(end, ends.get(probe.host, end))
    until = max(ends.values(), default=state.now)
    return until, {host: end for host, end in ends.items() if end < until}


def _gone(state: CacheState) -> Iterator[tuple[str, int]]:
    """Yield the starts that have ended, or vanished ten seconds ago, each with the time up to which it was heard."""
    vanished = state.gone
    for probe in state.probes:
        if probe.ended or probe.start in vanished:
            yield probe.start, _end_of(probe, state)


def _end_of(turn: Turn, state: CacheState) -> int:
    """Return the end of a turn on the clock of the stream (ns)."""
    return turn.now + (state.stream.shift_of(turn.start) or 0)


def captured_of(transaction: Transaction, probe: str = "") -> Captured:
    """Return a transaction as it travels on the bus, at the time of its end; what is unknown, or usual, is left out.

    `probe` is the start to which its batch refers.
    """
    one, flow, answer = transaction, transaction.flow, transaction.answer
    asked, ended, rcode = one.asked, one.ended, one.rcode
    relations, left_out = ([], 0) if answer is None else _packed(one.name, answer)
    socket, resolver, port = _NOWHERE if flow is None else _where(flow)
    values: tuple[Any, ...] = (
        event_place(one.batch, one.place, probe),
        None,  # the transport is that of the flow
        socket,
        resolver,
        port,
        _HOPS[one.hop],
        _asked_for(one.asked_for, probe) if one.asked_for else None,
        one.name,
        one.type,
        _OUTCOMES[one.outcome],
        rcode if rcode >= 0 else None,
        one.tries,
        None if not asked else ended - asked if ended > asked else 0,
        relations,
        left_out or None,
        one.admitted if relations else None,
        one.matched,
    )
    if one.doubted or one.foreign is not None:
        values += one.doubted or None, one.foreign
    if flow is not None:
        source, destination = flow.source, flow.destination
        flow = Flow(source, flow.source_port, destination, flow.destination_port, flow.transport, 0, flow.namespace)
    return packed_fact(ended, flow, one.process, values)


def captured_stage(fact: ConnectionFact, probe: str = "") -> Captured:
    """Return a stage of a connection as it travels on the bus, at its time; what is unknown is left out.

    `probe` is the start to which its batch refers.
    """
    stage, opening, (name, bound, opened) = fact.stage, fact.opening, fact.meaning
    values = [
        stage_place(fact.id, probe),
        stage.name,
        None,  # the transport is that of the flow
        opening.cookie or None,
        name or None,
        bound if name else None,
        None if stage.name == OPENED else max(stage.time - opened, 0),
        fact.connected if stage.name == RESULT else None,
        stage.error or None,
        stage.why or None,
        *((stage.sent, stage.received) if stage.sent >= 0 and stage.received >= 0 else (None, None)),
    ]
    ends = _address(fact.client), fact.client_port, _address(opening.address), opening.port
    flow = Flow(*ends, opening.transport, namespace=opening.namespace)
    return packed_fact(stage.time, flow, opening.process, values)


def _asked_for(identity: str, probe: str) -> EventPlace:
    batch, _, place = identity.rpartition("/")
    return event_place(batch, int(place), probe)


def _where(flow: Flow) -> tuple[int | None, bytes | None, int | None]:
    """Return the socket, and address and port of the server that the asker meant, if NAT led to another one."""
    meant, port = flow.meant, flow.destination_port
    if not meant or (meant == flow.destination and flow.meant_port in (0, port)):
        return flow.socket or None, None, None
    if flow.egress or not flow.socket:  # a server's socket does not show what the asker meant
        resolver = address_of(meant, flow.meant_port or port)
        if len(resolver[0]) in _ADDRESS and resolver != address_of(flow.destination, port):
            return flow.socket or None, *resolver
    return flow.socket or None, None, None


def _packed(name: str, answer: Answer) -> tuple[list[tuple[int | str, ...]], int]:
    """Return the relations that keep within MOST_BYTES as they travel, and the number of the others."""
    packed: list[tuple[int | str, ...]] = []
    edges, lives = answer.edges, answer.lives
    if len(edges) > _FEW:
        sizes = accumulate(len(owner) + len(target) for owner, _, target in edges)
        edges = edges[: sum(size <= MOST_BYTES for size in sizes)]
    last: str | None = None  # the owner before
    for place, (owner, kind, target) in enumerate(edges):
        ttl = lives[place] // SECOND
        if owner == name:
            packed.append((kind, target, ttl))
        else:
            packed.append((kind, target, ttl, 0 if owner == last else owner))
        name, last = target, owner
    return packed, len(answer.edges) - len(edges)


@lru_cache(_ADDRESSES)
def _address(text: str) -> bytes:
    """Return an address in its packed form, b"" if it is unknown."""
    return ip_address(text).packed if text else b""
