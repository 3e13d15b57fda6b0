"""The facts that the image learned, published in turns while a subscriber wants them (docs/use/lookups.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, TypeVar

import dns.rdatatype

from dnstrail.bus import Publisher, Server
from dnstrail.captured import LAST_TIME, Captured, Flow
from dnstrail.events import DNS_TRANSACTION, FACT_ID, FACT_NAMES, NET_CONNECTION
from dnstrail.image.binding.bindings import OPENED, RESULT
from dnstrail.image.facts.connections import ConnectionFact
from dnstrail.image.facts.transaction import Transaction
from dnstrail.image.queries import WINDOW
from dnstrail.protocol.batch_publisher import BatchPublisher
from dnstrail.protocol.batches import HostIdentity, Turn
from dnstrail.protocol.facts import packed_fact
from dnstrail.protocol.replay_window import KEPT, ReplayWindow
from dnstrail_cache.state.cache_state import CacheState

HEARTBEAT = 1.0  # seconds between turns without facts
_GATHER, _ON_REQUEST = 0.05, 0.01  # seconds for which a turn gathers facts, also if a subscriber waits for its end
_ADVANCE = 0.25  # seconds between two looks for questions that nobody has answered in time
#: bytes of the relations of one fact -> further ones are only counted, in `left_out`
MOST_BYTES = 64 << 10  # a fact fits in a batch
_FEW = 16  # relations that keep within it, as long as names can be
_TYPES = 256  # whose names are remembered
_ADDRESSES = 1024  # whose packed form is remembered
_ADDRESS = (4, 16)  # bytes: a probe may send others
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
        self._replays = replays
        self._state = state
        self._batches = BatchPublisher(publisher, identity.new_start(), live=False, identity=identity, hop="cache")
        self._batches.window = self._window = ReplayWindow(self._batches.start)
        now = state.clock.monotonic()
        # When there was a subscriber of each name last (s).
        self._subscribed = dict.fromkeys(FACT_NAMES, now if state.begun else float("-inf"))
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
            until = _heard_until(state) + (2 * WINDOW if is_over else 0)
            if transactions is not None:
                transactions.advance(until)
            if connections is not None:
                for start, heard in _gone(state):
                    connections.end_start(start, heard)
                connections.advance(until)
        refused = self._batches.refused
        taken = self._add(DNS_TRANSACTION, transactions.take(), captured_of) if transactions is not None else 0
        taken += self._add(NET_CONNECTION, connections.take(), captured_stage) if connections is not None else 0
        if taken:
            state.counters["facts_published"] += taken - (self._batches.refused - refused)
            self._gathered = True
            if is_over:
                self._take()

    def _add(self, topic: str, facts: list[_Fact], captured: Callable[[_Fact], Captured]) -> int:
        """Put facts into the open turn, each in its form on the bus; return their number."""
        for fact in facts:
            self._batches.add(topic, captured(fact), fact.host)
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
    return min((_end_of(probe, state) for probe in heard), default=state.now)


def _gone(state: CacheState) -> Iterator[tuple[str, int]]:
    """Yield the starts that have ended, or vanished ten seconds ago, each with the time up to which it was heard."""
    vanished = state.gone
    for probe in state.probes:
        if probe.ended or probe.start in vanished:
            yield probe.start, _end_of(probe, state)


def _end_of(turn: Turn, state: CacheState) -> int:
    """Return the end of a turn on the clock of the stream (ns)."""
    return turn.now + (state.stream.shift_of(turn.start) or 0)


def captured_of(transaction: Transaction) -> Captured:
    """Return a transaction as it travels on the bus, at the time of its end; what is unknown, or usual, is left out."""
    relations, left_out = _bounded(transaction.relations)
    args: dict[str, Any] = {
        FACT_ID: transaction.id,
        "hop": transaction.hop,
        "name": transaction.name,
        "type": _type_text(transaction.type),
        "outcome": transaction.outcome,
        "tries": transaction.tries,
        "relations": relations,
        "matched": transaction.matched,
    }
    if relations:
        args["admitted"] = transaction.admitted
    if transaction.asked_for:
        args["for"] = transaction.asked_for
    if transaction.rcode >= 0:
        args["rcode"] = transaction.rcode
    if transaction.asked:
        args["waited"] = max(transaction.ended - transaction.asked, 0)
    if left_out:
        args["left_out"] = left_out
    if transaction.doubted:
        args["doubted"] = True
    if transaction.foreign is not None:
        args["foreign"] = transaction.foreign
    flow = transaction.flow
    if flow is not None:
        args |= _where(flow, *transaction.resolver)
        ends = flow.source, flow.source_port, flow.destination, flow.destination_port
        flow = Flow(*ends, flow.transport, namespace=flow.namespace)
    return packed_fact(DNS_TRANSACTION, transaction.ended, flow, transaction.process, args)


def captured_stage(fact: ConnectionFact) -> Captured:
    """Return a stage of a connection as it travels on the bus, at its time; what is unknown is left out."""
    stage, opening, (name, bound, opened) = fact.stage, fact.opening, fact.meaning
    args: dict[str, Any] = {FACT_ID: fact.id, "stage": stage.name, "transport": opening.transport}
    if cookie := opening.cookie:
        args["socket"] = cookie
    if name:
        args |= {"name": name, "bound": bound}
    if stage.name != OPENED:
        args["lasted"] = max(stage.time - opened, 0)
    if stage.name == RESULT:
        args["connected"] = fact.connected
    if stage.error:
        args["error"] = stage.error
    if stage.why:
        args["why"] = stage.why
    if stage.sent >= 0 and stage.received >= 0:
        args |= {"bytes_sent": stage.sent, "bytes_received": stage.received}
    ends = _packed(fact.client), fact.client_port, _packed(opening.address), opening.port
    flow = Flow(*ends, opening.transport, namespace=opening.namespace)
    return packed_fact(NET_CONNECTION, stage.time, flow, opening.process, args)


def _where(flow: Flow, resolver: bytes, port: int) -> dict[str, Any]:
    """Return the arguments that a flow leads to."""
    args: dict[str, Any] = {"transport": flow.transport}
    if flow.socket:
        args["socket"] = flow.socket
    if len(resolver) in _ADDRESS and (resolver, port) != (flow.destination, flow.destination_port):
        args |= {"resolver": str(ip_address(resolver)), "resolver_port": port}
    return args


def _bounded(relations: tuple[tuple[str, str, str, int], ...]) -> tuple[list[tuple[str, str, str, int]], int]:
    """Return the relations that keep within MOST_BYTES, and the number of the others."""
    if len(relations) <= _FEW:
        return list(relations), 0
    kept, size = 0, 0
    for owner, kind, target, _ in relations:
        size += len(owner) + len(kind) + len(target)
        if size > MOST_BYTES:
            break
        kept += 1
    return list(relations[:kept]), len(relations) - kept


@lru_cache(_ADDRESSES)
def _packed(address: str) -> bytes:
    """Return an address in its packed form, b"" if it is unknown."""
    return ip_address(address).packed if address else b""


@lru_cache(_TYPES)
def _type_text(rdtype: int) -> str:
    return dns.rdatatype.to_text(dns.rdatatype.RdataType.make(rdtype))
