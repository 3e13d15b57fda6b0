"""Replays of probes on other hosts: each replays its own starts alone."""

from __future__ import annotations

from collections.abc import Iterable

from dnstrail.bus import Requester
from dnstrail.errors import BadMessage
from dnstrail.protocol.batches import TURN, Batch, Turn, decode
from dnstrail.protocol.keyed_subscriber import own_message
from dnstrail.protocol.replays import Replay, decode_replay


def may_replay(source: Requester, start: str) -> bool:
    """Return whether a probe may replay a start: it is on this host, or has the key of the start."""
    return source.remote is None or source.remote.owns(start)


def sources_of(start: str, sources: Iterable[Requester]) -> list[Requester]:
    """Return the probes that may replay a start."""
    return [source for source in sources if may_replay(source, start)]


def replay_of(source: Requester, start: str, reply: bytes) -> Replay:
    """Return the replay in a reply to a request for turns of a start. Another host replays its own messages alone.

    Raises:
        BadMessage: the reply is no replay, or contains a message of another start.
    """
    replay, remote = decode_replay(reply), source.remote
    if remote is None:
        return replay
    own = [(topic, own_message(remote, topic, body)) for topic, body in replay.messages]
    for topic, body in own:
        stated = decode(body, Turn).start if topic == TURN else decode(body, Batch).start
        if stated != start:
            raise BadMessage(f"bad replay: a message of the start {stated}")
    return Replay(own, replay.last)
