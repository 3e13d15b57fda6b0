"""Facts on the bus: their compact form, and the subscription of a worker to those of the cache of its host."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import Annotated, Any, Literal

import msgspec
from msgspec.structs import astuple

from dnstrail.bus import Bus
from dnstrail.bus.ipc import facts_address
from dnstrail.captured import Captured, Flow, Process
from dnstrail.errors import BadMessage
from dnstrail.events import DNS_TRANSACTION, EVENTS, FACT_NAMES, NET_CONNECTION, NET_PACKET_DNS, OUTCOMES
from dnstrail.protocol.batches import TURN, Batch, Turn
from dnstrail.protocol.listener import Listener

RUNS = 2  # of the cache, the present one and the one before: a subscriber follows them beside the starts of probes
HOPS = ("client", "forwarder", "served")
_FORWARDER = "forwarder"
_VALUES = ""  # the one argument on the bus: the others by their places, since their names cost as much as the rest
_OF_FLOW = ("src", "dst", "src_port", "dst_port")
_PLACES = {
    topic: tuple(field.name for field in EVENTS[topic].fields if field.name not in _OF_FLOW) for topic in FACT_NAMES
}
_TYPES = 256  # whose names are remembered
_BATCHES = 256  # whose numbers are remembered: facts of one turn are mostly of few batches of events
_Natural = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
_Ttl = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]  # RFC 2181, section 8
_Type = Annotated[int, msgspec.Meta(ge=0, lt=1 << 16)]
_Port = Annotated[int, msgspec.Meta(ge=0, lt=1 << 16)]
_Address = Annotated[bytes, msgspec.Meta(min_length=4, max_length=16)]
_Hop = Annotated[int, msgspec.Meta(ge=0, lt=len(HOPS))]
_Outcome = Annotated[int, msgspec.Meta(ge=0, lt=len(OUTCOMES))]
# An event: its batch, and its place there, of the start to which a batch of facts refers. One of another start is text.
EventPlace = tuple[_Natural, _Natural] | str
StagePlace = tuple[str, _Natural, _Natural] | str  # for a connection: with the topic of its event


class PackedRelation(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A relation of a transaction. Without an owner it belongs to the name that was asked, or to the target before.

    The owner 0 is the owner of the relation before: an answer often has several addresses.
    """

    type: _Type
    target: str
    ttl: _Ttl
    owner: str | Literal[0] | None = None


class TransactionValues(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The values of a transaction in the form and the order in which they travel; None where they state nothing."""

    id: EventPlace
    transport: None
    socket: _Natural | None
    resolver: _Address | None
    resolver_port: _Port | None
    hop: _Hop
    asked_for: EventPlace | None
    name: str
    type: _Type
    outcome: _Outcome
    rcode: _Natural | None
    tries: _Natural
    waited: _Natural | None
    relations: tuple[PackedRelation, ...]
    left_out: _Natural | None = None
    admitted: bool | None = None
    matched: bool | None = None
    doubted: bool | None = None
    foreign: bool | None = None

    @property
    def owned(self) -> Iterator[tuple[str, int, str, int]]:
        """The relations as owner, type, target and TTL."""
        owner = before = self.name
        for relation in self.relations:
            if relation.owner is None:
                owner = before
            elif relation.owner != 0:
                owner = relation.owner
            yield owner, relation.type, relation.target, relation.ttl
            before = relation.target


class ConnectionValues(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The values of a stage of a connection in the order in which they travel; None where they state nothing."""

    id: StagePlace
    stage: Literal["opened", "result", "named", "end"]
    transport: None
    socket: _Natural | None
    name: str | None
    bound: str | None = None
    lasted: _Natural | None = None
    connected: bool | None = None
    error: str | None = None
    why: str | None = None
    bytes_sent: _Natural | None = None
    bytes_received: _Natural | None = None


FactValues = TransactionValues | ConnectionValues
_VALUES_OF: dict[str, type[FactValues]] = {DNS_TRANSACTION: TransactionValues, NET_CONNECTION: ConnectionValues}


def packed_fact(stamp: int, flow: Flow | None, process: Process | None, values: Sequence[Any]) -> Captured:
    """Return a fact in the form in which it travels (docs/reference/events.md)."""
    return Captured(stamp, b"", flow, process, {_VALUES: values})


def unpacked_fact(topic: str, captured: Captured, probe: str = "") -> Captured:
    """Return a fact that arrived, with its arguments by name; those that are unknown are left out.

    `probe` is the start to which its batch refers.

    Raises:
        BadMessage: no cache of ours sends it.
    """
    flow = captured.flow
    try:
        values = checked_values(topic, captured)
        args: dict[str, Any] = dict(zip(_PLACES[topic], astuple(values), strict=True))
        args["transport"] = None if flow is None else flow.transport
        args |= _words(values, probe) if isinstance(values, TransactionValues) else _receiver_of(values, flow, probe)
    except ValueError as error:
        raise BadMessage(f"bad fact: {error!r}") from error
    known = {name: value for name, value in args.items() if value is not None}
    return Captured(captured.timestamp, b"", flow, captured.process, known)


def unpacked_facts(
    topic: str, probe: str, received: Iterable[tuple[int, Captured]], refuse: Callable[[BadMessage], None]
) -> Iterator[tuple[int, Captured]]:
    """Yield facts that arrived, by their places, as `unpacked_fact` does; `refuse` receives what is wrong with others.

    One bad fact does not cost the others of its batch.
    """
    for place, captured in received:
        try:
            fact = unpacked_fact(topic, captured, probe)
        except BadMessage as error:
            refuse(error)
        else:
            yield place, fact


def checked_values(topic: str, captured: Captured) -> FactValues:
    """Return the values of a fact that arrived, once each has its type. A later version may add some at the end.

    Raises:
        BadMessage: no cache of ours sends it.
    """
    try:
        return msgspec.convert(captured.args[_VALUES], _VALUES_OF[topic])
    except (msgspec.ValidationError, LookupError) as error:
        raise BadMessage(f"bad fact: {error!r}: is the cache of another version?") from error


def without_owners(name: str, relations: Iterable[tuple[str, int, str, int]]) -> Iterator[PackedRelation]:
    """Return relations (owner, type, target, TTL) of a transaction for a name as they travel."""
    last: str | None = None  # the owner before
    for owner, rdtype, target, ttl in relations:
        yield PackedRelation(rdtype, target, ttl, None if owner == name else 0 if owner == last else owner)
        name, last = target, owner


def is_for_another(hop: str, asked_for: str | None) -> bool:
    """Return whether a process asked for a client whose question is known, so that the client's question counts.

    A process that ever answered DNS is a forwarder. It asks for itself, too: such a question hides behind no other one.
    """
    return hop == _FORWARDER and bool(asked_for)


def _words(values: TransactionValues, probe: str) -> dict[str, Any]:
    """Return the arguments of a transaction that travel in a shorter form."""
    asked_for, resolver = values.asked_for, values.resolver
    return {
        "id": whole_id(values.id, probe),
        "for": None if asked_for is None else whole_id(asked_for, probe),
        "resolver": None if resolver is None else str(ip_address(resolver)),
        "hop": HOPS[values.hop],
        "type": type_text(values.type),
        "outcome": OUTCOMES[values.outcome],
        "relations": [(owner, type_text(kind), target, ttl) for owner, kind, target, ttl in values.owned],
    }


def _receiver_of(values: ConnectionValues, flow: Flow | None, probe: str) -> dict[str, Any]:
    """Return the id of a stage, and the arguments that state its receiver before its source is known.

    Raises:
        BadMessage: no cache of ours sends it.
    """
    if flow is None:
        raise BadMessage(f"bad fact: stage {values.stage} without a flow")
    identity = {"id": whole_stage_id(values, probe)}
    return identity if flow.source else identity | {"dst": flow.destination_text, "dst_port": flow.destination_port}


def event_place(batch: str, place: int, probe: str) -> EventPlace:
    """Return the event at a place of a batch (its start and number), as a batch of facts states it.

    `probe` is the start to which the batch of facts refers.
    """
    start, number = _start_and_number(batch)
    return (number, place) if start == probe != "" else f"{batch}/{place}"


@lru_cache(_BATCHES)
def _start_and_number(batch: str) -> tuple[str, int]:
    """Return the start and the number of a batch; no start if they are none of a probe."""
    start, _, number = batch.rpartition("/")
    return (start, int(number)) if number.isdecimal() else ("", 0)


def stage_place(stage: str, probe: str) -> StagePlace:
    """Return the id of a stage (start, topic, batch, place and stage) as a batch of facts states it."""
    match stage.rsplit("/", 4):
        case [start, topic, batch, place, _] if start == probe != "":
            return topic, int(batch), int(place)
    return stage


def whole_id(event: EventPlace, probe: str) -> str:
    """Return the id of the transaction that an event began, of `probe` if it is no text.

    The id has the topic of the event, and the stage.

    Raises:
        BadMessage: no cache of ours sends it.
    """
    if isinstance(event, str) and event.count("/") > 1:
        start, *text = event.rsplit("/", 2)
        return f"{start}/{NET_PACKET_DNS}/{'/'.join(text)}/end"
    if isinstance(event, str) or not probe:
        raise BadMessage(f"bad fact: id {event!r:.100} without a start")
    batch, place = event
    return f"{probe}/{NET_PACKET_DNS}/{batch}/{place}/end"


def whole_stage_id(values: ConnectionValues, probe: str) -> str:
    """Return the id of a stage of a connection; its event is of `probe` if the id is no text.

    Raises:
        BadMessage: no cache of ours sends it.
    """
    if isinstance(values.id, str):
        return values.id
    if not probe:
        raise BadMessage(f"bad fact: id {values.id!r:.100} without a start")
    topic, batch, place = values.id
    return f"{probe}/{topic}/{batch}/{place}/{values.stage}"


@lru_cache(_TYPES)
def type_text(rdtype: int) -> str:
    """Return the name of a type of records."""
    import dns.rdatatype  # noqa: PLC0415 - few processes need dnspython

    return dns.rdatatype.to_text(dns.rdatatype.RdataType.make(rdtype))


class FactFeed:
    """The facts of the cache that answers at `lookups`, or those published at `address`, and the ends of their turns.

    `heard` states that a turn has arrived: the cache then publishes the facts of all later events. A worker that needs
    each fact of a file subscribes to the probe after that. `published` counts the facts that the cache has published,
    as far as this end knows.
    """

    def __init__(self, bus: Bus, lookups: str, topics: Iterable[str] = (), address: str | None = None) -> None:
        self.address = address or facts_address(lookups)
        self.subscriber = bus.subscriber([self.address], [])
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
