"""Batches and turns: how events travel over the bus.

A probe collects events by name in batches, and publishes all open batches together. One such flush is a turn: it ends
with a message that subscribers use to detect losses, and to learn when they have received everything up to a moment.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Annotated, Any, Generic, NamedTuple, TypeVar, cast

import msgpack
import msgspec

from dnstrail.bus.remote_host import start_of
from dnstrail.captured import Captured
from dnstrail.errors import BadMessage
from dnstrail.protocol.event_table import BatchTable, E, ReceivedEvents, Row, WireEvent, WireEvents, refuse_extension

TURN = "turn"
YOUNG = 30.0  # seconds after its begin for which a subscriber that is new to a live start is to receive all of it
_SECOND = 1_000_000_000  # ns
Mark = tuple[str, int]  # (start id of a probe, turn): a moment in the stream of its events
MOST_COUNT = (1 << 53) - 1
Count = Annotated[int, msgspec.Meta(ge=0, le=MOST_COUNT)]


class HostIdentity(NamedTuple):
    """The host of an event, and the digest of the key of the publisher.

    The fields of the host are "" where it is unknown, as in a capture file. `key` is "" for a publisher on its own host
    alone.
    """

    host: str = ""
    machine_id: str = ""
    key: str = ""
    boot_id: str = ""

    def new_start(self) -> str:
        """Return the id of a new start. Subscribers of all hosts know it by this id."""
        random = secrets.token_hex(8)
        return start_of(self.key, random) if self.key else random


UNKNOWN = HostIdentity()


class Batch(msgspec.Struct, frozen=True):
    """Events of one name.

    `start` identifies the run of the probe, `turn` the flush, and `sequence` numbers the batches of this name within
    the start. `before` counts the events of each name that the start published earlier (None: it does not count).
    `host` is the name of the watched host, "" where it is unknown, as in a capture file. `probe` is the start of the
    probe to which the ids of facts refer, "" without such ids.
    """

    start: str
    turn: Count
    sequence: Count
    events: Sequence[Captured]
    before: dict[str, Count] | None = None
    host: str = ""
    probe: str = ""


class WireBatch(msgspec.Struct, Generic[E], frozen=True, array_like=True):
    """A batch as it is encoded."""

    start: str
    turn: Count
    sequence: Count
    events: WireEvents[E]
    before: dict[str, Count] | None = None
    host: str = ""
    probe: str = ""


class CgroupLoss(msgspec.Struct, frozen=True, array_like=True):
    """The events that the kernel lost for one cgroup since the start of a run; their owners are its processes.

    `owner` is the owner of the cgroup, 0 if it is unknown. `cgroup` is 0 for losses of all cgroups of this owner that
    are not named, without an owner for losses of those of any. `name` is for people: the container, else the path of
    the cgroup or the owner, "" where it is unknown.
    """

    cgroup: Annotated[int, msgspec.Meta(ge=0)]
    lost: Count
    name: str = ""
    owner: Annotated[int, msgspec.Meta(ge=0)] = 0


class Turn(msgspec.Struct, frozen=True, array_like=True):
    """The end of a turn, and the heartbeat of an idle probe.

    `last` holds the last sequence of each name so far, so that a subscriber detects the loss of a final batch. `now` is
    the clock of the source in ns (for a file its greatest time stamp so far). `ended` states that the source has
    ended. `published` counts the events of each name so far (None: the probe does not count). `lost` counts the events
    that the source lost so far, by hop ("kernel" or "probe") and reason. `host` and `machine_id` identify the watched
    host, and are "" where it is unknown. `lost_by_cgroup` divides the losses at the hop "kernel", and `tcp_evicted` at
    "probe", the greatest first. It is empty if the source does not know their owners. Since the turn before, each loss
    has made one entry grow: the entry of its cgroup, or one of cgroup 0, which never shrinks. `difference` is wall time
    minus `now` in ns: it is 0 for a file, and for a live source until the wall clock steps. It is added to a time where
    that time is shown. `since` is the clock of a live source at the beginning of the start (0: unknown). `boot_id`
    identifies the run of the host's kernel, whose processes have one wall time; "" where it is unknown.
    """

    start: str
    turn: Count
    last: dict[str, Count]
    live: bool
    now: int
    ended: bool = False
    counters: dict[str, Count] = {}
    published: dict[str, Count] | None = None
    lost: dict[str, dict[str, Count]] = {}
    host: str = ""
    machine_id: str = ""
    lost_by_cgroup: tuple[CgroupLoss, ...] = ()
    difference: int = 0
    since: int = 0
    boot_id: str = ""


def is_young(turn: Turn) -> bool:
    """Return whether a live start began so lately that its probe and its subscribers were started together."""
    return turn.live and turn.since > 0 and 0 <= turn.now - turn.since <= YOUNG * _SECOND


def may_be_missed(turn: Turn) -> bool:
    """Return whether a young start has published events before the first turn that arrives, or in it."""
    return is_young(turn) and any((turn.published or {}).values())


T = TypeVar("T", Batch, Turn)
_ENCODER = msgspec.msgpack.Encoder()


def encode(message: Batch | Turn | WireBatch[msgspec.Raw]) -> bytes:
    """Return a batch or a turn as the body of a bus message."""
    if isinstance(message, Batch):
        one, events = message, BatchTable(message.events).wire
        message = WireBatch(one.start, one.turn, one.sequence, events, one.before, one.host, one.probe)
    return _ENCODER.encode(message)


def _decoder(wire: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(wire, ext_hook=refuse_extension)


_DECODERS = {Batch: _decoder(WireBatch[msgspec.Raw]), Turn: _decoder(Turn)}
_WHOLE = _decoder(WireBatch[WireEvent])


def rows_decoder(event: Any) -> msgspec.msgpack.Decoder[Any]:
    """Return a decoder of batches whose events are decoded with them, as values of a kind like WireEvent."""
    return _decoder(WireBatch[event])


def decode(body: bytes, kind: type[T]) -> T:
    """Return the batch or turn in the body of a bus message. The events of a batch are decoded when they are read.

    Raises:
        BadMessage: the body is no message of this kind.
    """
    return _decoded(_DECODERS[kind], body, kind)


def decode_any(topic: str, body: bytes) -> Batch | Turn:
    """Return the batch or turn in a bus message, as its topic states.

    Raises:
        BadMessage: the body is no such message.
    """
    return decode(body, Turn) if topic == TURN else decode(body, Batch)


def decode_whole(body: bytes) -> tuple[Batch, list[Row]]:
    """Return the batch in the body of a bus message, and all its events: decoded, each with its process.

    Raises:
        BadMessage: the body is no batch, or one of its events is bad.
    """
    return decode_rows(body, _WHOLE)


def decode_rows(body: bytes, decoder: msgspec.msgpack.Decoder[Any]) -> tuple[Batch, list[Any]]:
    """Return the batch in the body of a bus message, and all its events by a decoder, each with its process.

    Events of one thread share the object of their process.

    Raises:
        BadMessage: the body is no batch, or one of its events is bad.
    """
    batch: Batch = _decoded(decoder, body, Batch)
    return batch, cast("ReceivedEvents", batch.events).rows()  # as `_received` makes them


def _decoded(decoder: msgspec.msgpack.Decoder[Any], body: bytes, kind: type[T]) -> T:
    try:
        decoded = decoder.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise BadMessage(f"bad {kind.__name__.lower()}: {error}") from error
    message: T = _received(decoded) if kind is Batch else decoded
    return message


def _received(batch: WireBatch[Any]) -> Any:
    events = ReceivedEvents(batch.events)
    return Batch(batch.start, batch.turn, batch.sequence, events, batch.before, batch.host, batch.probe)


def unpack(body: bytes) -> Any:
    """Return MessagePack as plain values.

    Raises:
        BadMessage: the bytes are no MessagePack.
    """
    try:
        return msgpack.unpackb(body)
    except (ValueError, msgpack.UnpackException) as error:  # its other errors derive from ValueError
        raise BadMessage(f"no MessagePack: {error or type(error).__name__}") from error


def nesting(fields: dict[str, Any], most: int) -> int:
    """Return the depth of nested maps and arrays; the count stops one level beyond `most`."""
    depth = 0
    level: list[Any] = [fields]
    while level and depth <= most:
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (list, dict))
        ]
        depth += 1
    return depth
