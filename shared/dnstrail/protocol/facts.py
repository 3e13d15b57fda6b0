"""Facts on the bus: their compact form, and the subscription of a worker to those of the cache of its host."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

import msgspec

from dnstrail.bus import Bus
from dnstrail.bus.ipc import facts_address
from dnstrail.captured import Captured, Flow, Process
from dnstrail.errors import BadMessage
from dnstrail.events import DNS_TRANSACTION, EVENTS
from dnstrail.protocol.batches import TURN, Batch, Turn
from dnstrail.protocol.listener import Listener

RUNS = 2  # of the cache, the present one and the one before: a subscriber follows them beside the starts of probes
_VALUES = ""  # the one argument on the bus: the others by their places, since their names cost as much as the rest
_OF_FLOW = ("src", "dst", "src_port", "dst_port")
_PLACES = tuple(field.name for field in EVENTS[DNS_TRANSACTION].fields if field.name not in _OF_FLOW)
_RELATIONS = "relations"
_PLACE_OF_RELATIONS = _PLACES.index(_RELATIONS)
_Relation = tuple[str | None, str, str, int]  # without an owner: of the name that was asked, or the target before
_Natural = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
_Port = Annotated[int, msgspec.Meta(ge=0, lt=1 << 16)]


class TransactionValues(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The values of a transaction in the order in which they travel, each of its type; None where it states nothing.

    A relation without an owner is one of `name`, or of the target before it.
    """

    id: str
    transport: str | None
    socket: _Natural | None
    resolver: str | None
    resolver_port: _Port | None
    hop: str
    asked_for: str | None
    name: str
    type: str
    outcome: str
    rcode: _Natural | None
    tries: _Natural
    waited: _Natural | None
    relations: tuple[tuple[str | None, str, str, _Natural], ...]
    left_out: _Natural | None = None
    admitted: bool | None = None
    matched: bool | None = None
    doubted: bool | None = None
    foreign: bool | None = None

    @property
    def owned(self) -> Iterator[tuple[str, str, str, int]]:
        """The relations, each with its owner."""
        return _with_owners(self.name, self.relations)


def packed_fact(stamp: int, flow: Flow | None, process: Process | None, args: Mapping[str, Any]) -> Captured:
    """Return a transaction in the form in which it travels."""
    values = [*map(args.get, _PLACES)]
    values[_PLACE_OF_RELATIONS] = [*without_owners(args["name"], args[_RELATIONS])]
    return Captured(stamp, b"", flow, process, {_VALUES: values})


def unpacked_fact(captured: Captured) -> Captured:
    """Return a transaction that arrived, with its arguments by name; those that are unknown are left out.

    Raises:
        BadMessage: no cache of ours sends it.
    """
    try:
        values = zip(_PLACES, captured.args[_VALUES], strict=False)  # a later version may add some at the end
        args = {name: value for name, value in values if value is not None}
        args[_RELATIONS] = [*_with_owners(args["name"], args[_RELATIONS])]
    except (TypeError, ValueError, LookupError) as error:
        raise BadMessage(f"bad fact: {error!r}") from error
    return Captured(captured.timestamp, b"", captured.flow, captured.process, args)


def checked_fact(captured: Captured) -> TransactionValues:
    """Return the values of a transaction that arrived, once each has its type.

    Raises:
        BadMessage: no cache of ours sends it.
    """
    try:
        return msgspec.convert(captured.args[_VALUES], TransactionValues)
    except (msgspec.ValidationError, LookupError) as error:
        raise BadMessage(f"bad fact: {error!r}") from error


def without_owners(name: str, relations: Iterable[tuple[str, str, str, int]]) -> Iterator[_Relation]:
    """Return relations as they travel: without an owner that follows from the relation before."""
    for owner, kind, target, ttl in relations:
        yield None if owner == name else owner, kind, target, ttl
        name = target


def _with_owners(name: str, relations: Iterable[_Relation]) -> Iterator[tuple[str, str, str, int]]:
    for owner, kind, target, ttl in relations:
        yield name if owner is None else owner, kind, target, ttl
        name = target


class FactFeed:
    """The facts of the cache that answers at `lookups`, and the ends of their turns.

    `heard` states that a turn has arrived: the cache then publishes the facts of all later events. A worker that needs
    each fact of a file subscribes to the probe after that. `published` counts the facts that the cache has published,
    as far as this end knows.
    """

    def __init__(self, bus: Bus, lookups: str, topics: Iterable[str] = ()) -> None:
        self.subscriber = bus.subscriber([facts_address(lookups)], [])
        self.heard = False
        self.published = 0
        self._listener = Listener(self.subscriber)
        self._topics: set[str] = set()
        self._follows = False  # whether it is subscribed to the turns
        self.select(topics)

    def select(self, topics: Iterable[str]) -> None:
        """Subscribe to these facts instead of others, and to the turns once any were selected."""
        wanted = {*topics}
        for topic in self._topics - wanted:
            self.subscriber.unsubscribe(topic)
        for topic in wanted - self._topics:
            self.subscriber.subscribe(topic)
        if wanted and not self._follows:
            self._follows = True
            self.subscriber.subscribe(TURN)
        self._topics = wanted

    def batch(self, batch: Batch) -> None:
        """Note a batch that was received."""
        self.published = sum((batch.before or {}).values()) + len(batch.events)

    def turn(self, turn: Turn) -> None:
        """Note a turn that was received."""
        self.heard = True
        self._listener.turn(turn)
        self.published = sum((turn.published or {}).values())

    def idle(self, now: float) -> int:
        """Note that nothing waits to be received; return the number of new connections after a silence."""
        return self._listener.idle(now)
