"""Facts on the bus: their compact form, and the subscription of a worker to those of the cache of its host."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dnstrail.bus import Bus
from dnstrail.bus.ipc import facts_address
from dnstrail.captured import Captured, Flow, Process
from dnstrail.errors import BadMessage
from dnstrail.events import DNS_TRANSACTION, EVENTS, FACT_NAMES
from dnstrail.protocol.batches import TURN, Batch, Turn
from dnstrail.protocol.listener import Listener

RUNS = 2  # of the cache, the present one and the one before: a subscriber follows them beside the starts of probes
_VALUES = ""  # the one argument on the bus: the others by their places, since their names cost as much as the rest
_OF_FLOW = ("src", "dst", "src_port", "dst_port")
_PLACES = {
    topic: tuple(field.name for field in EVENTS[topic].fields if field.name not in _OF_FLOW) for topic in FACT_NAMES
}
_RELATIONS, _STAGE = "relations", "stage"
_PLACE_OF_RELATIONS = _PLACES[DNS_TRANSACTION].index(_RELATIONS)
_Relation = tuple[str | None, str, str, int]  # without an owner: of the name that was asked, or the target before


def packed_fact(
    topic: str, stamp: int, flow: Flow | None, process: Process | None, args: Mapping[str, Any]
) -> Captured:
    """Return a fact in the form in which it travels."""
    values = [*map(args.get, _PLACES[topic])]
    if topic == DNS_TRANSACTION:
        values[_PLACE_OF_RELATIONS] = [*_without_owners(args["name"], args[_RELATIONS])]
    return Captured(stamp, b"", flow, process, {_VALUES: values})


def unpacked_fact(topic: str, captured: Captured) -> Captured:
    """Return a fact that arrived, with its arguments by name; those that are unknown are left out.

    Raises:
        BadMessage: no cache of ours sends it.
    """
    try:
        values = zip(_PLACES[topic], captured.args[_VALUES], strict=False)  # a later version may add some at the end
        args = {name: value for name, value in values if value is not None}
        if topic == DNS_TRANSACTION:
            args[_RELATIONS] = [*_with_owners(args["name"], args[_RELATIONS])]
        else:
            args |= _receiver_of(args[_STAGE], captured.flow)
    except (TypeError, ValueError, LookupError) as error:
        raise BadMessage(f"bad fact: {error!r}") from error
    return Captured(captured.timestamp, b"", captured.flow, captured.process, args)


def _receiver_of(stage: object, flow: Flow | None) -> dict[str, Any]:
    """Return the arguments that state the receiver of a connection before its source is known.

    Raises:
        TypeError: no cache of ours sends such a stage.
    """
    if flow is None or not isinstance(stage, str):
        raise TypeError(f"stage {stage!r} without a flow")
    return {} if flow.source else {"dst": flow.destination_text, "dst_port": flow.destination_port}


def _without_owners(name: str, relations: Iterable[_Relation]) -> Iterator[_Relation]:
    for owner, kind, target, ttl in relations:
        yield None if owner == name else owner, kind, target, ttl
        name = target


def _with_owners(name: str, relations: Iterable[_Relation]) -> Iterator[_Relation]:
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
