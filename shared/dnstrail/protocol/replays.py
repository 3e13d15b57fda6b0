"""Replays: how a subscriber asks a probe for the turns that it missed (docs/inside/architecture.md).

A live probe keeps its last turns. A subscriber that restarts names a start and the last turn that it has, and receives
the messages of the turns after it as they were published. At the same address a subscriber that waits for a turn asks
the probe to end it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

import msgspec

from dnstrail.bus import Requester
from dnstrail.bus.remote_host import key_of
from dnstrail.bus.tcp import is_tcp
from dnstrail.errors import BadMessage
from dnstrail.protocol.batches import Count, decode_any
from dnstrail.protocol.keyed_subscriber import own_message

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


def replay_of(source: Requester, start: str, reply: bytes) -> Replay:
    """Return the replay in a reply to a request for turns of a start. Another host replays its own starts alone.

    Raises:
        BadMessage: the reply is no replay, or contains a message of another start.
    """
    replay, remote = decode_replay(reply), source.remote
    if remote is None:
        return replay
    own = [(topic, own_message(remote, topic, body)) for topic, body in replay.messages]
    for topic, body in own:
        stated = decode_any(topic, body).start
        if stated != start:
            raise BadMessage(f"bad replay: a message of the start {stated}")
    return Replay(own, replay.last)


class ReplayingProbes:
    """The probes from which a subscriber receives replays, and their starts. Nothing that they send raises an error.

    A probe of another host has starts of its key. One of this host that has named its start is asked for another one
    only if no probe is left that may have it. A probe is asked for one thing at a time.
    """

    def __init__(self, sources: Iterable[Requester]) -> None:
        self.by_key: dict[str, list[Requester]] = {"": []}  # "" is this host
        for source in sources:
            self.by_key.setdefault("" if source.remote is None else source.remote.key, []).append(source)
        self._named: dict[Requester, str] = {}  # the starts that probes of this host have named
        self._asked: dict[Requester, ReplayRequest] = {}  # the requests whose replies were not read

    def of(self, start: str) -> list[Requester]:
        """Return the probes that may replay a start."""
        of_host = self.by_key.get(key_of(start)) or self.by_key[""]
        return [source for source in of_host if self._named.get(source, start) == start] or [*of_host]

    def ask_ahead(self, source: Requester, request: ReplayRequest) -> None:
        """Ask a probe for turns that are read later, unless it was asked for others."""
        if source not in self._asked:
            self._send(source, request)

    def ask(self, source: Requester, request: ReplayRequest) -> Replay | None:
        """Ask a probe for turns, unless it was asked already; return its reply, an empty one if that is bad.

        Return None while there is no reply.
        """
        if self._asked.get(source) != request and not self._send(source, request):
            return None
        reply = source.reply()
        if reply is None:
            return None
        del self._asked[source]
        try:
            replay = replay_of(source, request.start, reply)
        except BadMessage:
            return Replay([])
        if replay.start:
            self._named[source] = replay.start
        return replay

    def _send(self, source: Requester, request: ReplayRequest) -> bool:
        sent = source.send(encode_replay(request))
        if sent:
            self._asked[source] = request
        return sent
