"""Replays: how a subscriber asks probes for missed turns, and to end open ones (docs/inside/architecture.md).

A live probe keeps its last turns. A subscriber that restarts names a start and the last turn that it has, and receives
the messages of the turns after it as they were published. At the same address a subscriber that waits for a turn asks
the probe to end it: it does not wait for the heartbeat.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

import msgspec

from dnstrail.bus import Requester
from dnstrail.bus.remote_host import key_of
from dnstrail.bus.tcp import is_tcp
from dnstrail.errors import BadMessage
from dnstrail.protocol.batches import Count, Mark, decode_any
from dnstrail.protocol.keyed_subscriber import own_message

AT_ONCE = 1 << 20  # bytes of messages after which a reply is complete
_ANY = (1 << 53) - 1  # whichever turn is open
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


class TurnRequests:
    """The probes that a subscriber asks to end their open turns, at most once for each turn that it received.

    Each probe names its start in its replies; another host names starts of its key alone. Nothing waits for replies. A
    probe that cannot be asked ends its turn with the next heartbeat. Memory is bounded: `most` starts.
    """

    def __init__(self, sources: Sequence[Requester], most: int) -> None:
        self._sources = sources
        self._most = most
        self._of: dict[str, Requester] = {}  # by start
        self._unknown = {*sources}  # those that were asked, and have not named their start yet
        self._asked: dict[str, int] = {}  # by start: the last turn that was received when its probe was asked
        self.ask_all()

    def ask_all(self) -> None:
        """Ask all probes to end their open turns, and to name their starts."""
        for source in self._sources:
            source.send(_request("", -1, _ANY))

    def ask(self, mark: Mark, last: int) -> None:
        """Ask for the end of the open turn of a start, up to a mark; `last` is the last turn that was received."""
        start, turn = mark
        if self._asked.get(start, -1) >= last:
            return
        self._note_starts()
        source = self._of.get(start)
        sent = [one.send(_request(start, last, turn)) for one in ([source] if source else self._sources)]
        if source is None:  # a probe that was restarted
            self._unknown.update(self._sources)
        if any(sent):
            self._asked = self._asked if len(self._asked) < self._most else {}
            self._asked[start] = last

    def _note_starts(self) -> None:
        """Note the starts that probes have named."""
        for source in [*self._unknown]:
            reply = source.reply()
            if reply is None:
                continue
            self._unknown.discard(source)
            try:
                start = decode_replay(reply).start
            except BadMessage:
                continue
            if start and (source.remote is None or source.remote.owns(start)):
                self._of = self._of if len(self._of) < self._most else {}
                self._of[start] = source


def _request(start: str, after: int, ends: int) -> bytes:
    return encode_replay(ReplayRequest(start, after, ends))
