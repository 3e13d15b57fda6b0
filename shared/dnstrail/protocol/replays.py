"""Replays: how a subscriber asks a probe for the turns that it missed (docs/inside/architecture.md).

A live probe keeps its last turns. A subscriber that restarts names a start and the last turn that it has, and receives
the messages of the turns after it as they were published. At the same address a subscriber that waits for a turn asks
the probe to end it.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import msgspec

from dnstrail.bus.tcp import is_tcp
from dnstrail.errors import BadMessage
from dnstrail.protocol.batches import Count

AT_ONCE = 1 << 20  # bytes of messages after which a reply is complete
Messages = list[tuple[str, bytes]]  # topic and body


class ReplayRequest(msgspec.Struct, frozen=True):
    """A request for the turns of a start after one of them; -1: from the first one.

    With `ends` it asks for no turns: the probe ends its open turn, if that is this one or an earlier one. `start` is ""
    if it is not known.
    """

    start: str
    after: int
    ends: Count | None = None


class Replay(msgspec.Struct, frozen=True):
    """Some whole turns up to `last`. `messages` is empty if the probe has none of them, or another start.

    `start` is the start of the probe, "" at a probe of an earlier version.
    """

    messages: Messages
    last: Count = 0
    start: str = ""


_ENCODE = msgspec.msgpack.Encoder().encode
_DECODERS: dict[type, Any] = {kind: msgspec.msgpack.Decoder(kind) for kind in (ReplayRequest, Replay)}


def replay_address(events: str) -> str:
    """Return the address at which a probe replays what it publishes at another address.

    It is a socket beside the socket of the events, or the next port.
    """
    if is_tcp(events):
        host, _, port = events.rpartition(":")
        return f"{host}:{int(port) + 1}" if port.isdigit() else events
    path = PurePosixPath(events)
    return events.removesuffix(path.name) + f"{path.stem}-replay{path.suffix}"


def encode_replay(message: ReplayRequest | Replay) -> bytes:
    """Return a request or a reply as bytes."""
    return _ENCODE(message)


def decode_request(body: bytes) -> ReplayRequest:
    """Return the request in a message.

    Raises:
        BadMessage: the body is no request.
    """
    request: ReplayRequest = _decode(body, ReplayRequest)
    return request


def decode_replay(body: bytes) -> Replay:
    """Return the reply in a message.

    Raises:
        BadMessage: the body is no reply.
    """
    replay: Replay = _decode(body, Replay)
    return replay


def _decode(body: bytes, kind: type) -> Any:
    try:
        return _DECODERS[kind].decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise BadMessage(f"bad {kind.__name__}: {error}") from error
