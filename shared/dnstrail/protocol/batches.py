"""Batches and turns: how events travel over the bus (DESIGN 3)."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgpack
import msgspec

from dnstrail.captured import Captured
from dnstrail.errors import BadMessage

TURN = "turn"
Mark = tuple[str, int]  # (start id of a probe, turn)
Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """Events of one name: which start of the probe, in which turn, and the how-manieth batch of this name.

    `before` is how many events of each name the start has published before, if it says so.
    """

    start: str
    turn: Count
    sequence: Count
    events: list[Captured]
    before: dict[str, Count] | None = None


class Turn(msgspec.Struct, frozen=True, array_like=True):
    """The end of a turn, and the heartbeat: the last sequence of each topic so far, and what the probe knows.

    `now` is the clock of the source in ns (of a file: its greatest stamp so far); `ended` says that it has ended;
    `published` is how many events of each name there were so far, if it says so.
    """

    start: str
    turn: Count
    last: dict[str, Count]
    live: bool
    now: int
    ended: bool = False
    counters: dict[str, Count] = {}
    published: dict[str, Count] | None = None


T = TypeVar("T", Batch, Turn)
_ENCODER = msgspec.msgpack.Encoder()


def encode(message: Batch | Turn) -> bytes:
    """A batch or a turn as the body of a bus message."""
    return _ENCODER.encode(message)


def _refuse_extension(code: int, _data: memoryview) -> None:
    raise ValueError(f"no extension type {code} is known")


_DECODERS: dict[type, Any] = {kind: msgspec.msgpack.Decoder(kind, ext_hook=_refuse_extension) for kind in (Batch, Turn)}


def decode(body: bytes, kind: type[T]) -> T:
    """The body of a bus message as a batch or a turn.

    Raises:
        BadMessage: it is none.
    """
    try:
        decoded: T = _DECODERS[kind].decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise BadMessage(f"a bad {kind.__name__.lower()}: {error}") from error
    return decoded


def unpack(body: bytes) -> Any:
    """MessagePack as plain values.

    Raises:
        BadMessage: it is none.
    """
    try:
        return msgpack.unpackb(body)
    except (ValueError, msgpack.UnpackException) as error:  # its other errors derive from ValueError
        raise BadMessage(f"no MessagePack: {error or type(error).__name__}") from error
