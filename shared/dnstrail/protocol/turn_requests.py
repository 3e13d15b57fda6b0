"""Requests to probes to end their open turns: who waits for a turn does not wait for the heartbeat."""

from __future__ import annotations

from collections.abc import Sequence

from dnstrail.bus import Requester
from dnstrail.errors import BadMessage
from dnstrail.protocol.batches import Mark
from dnstrail.protocol.replays import ReplayRequest, decode_replay, encode_replay

_ANY = (1 << 53) - 1  # whichever turn is open


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
