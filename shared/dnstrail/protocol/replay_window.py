"""The last turns of a live probe, for subscribers that restart: bounded in bytes and in time."""

from __future__ import annotations

from dnstrail.bus import Server
from dnstrail.errors import BadMessage
from dnstrail.protocol.replays import AT_ONCE, Messages, Replay, decode_request, encode_replay

#: seconds for which a live probe keeps its turns for workers that restart -> an older turn is dropped, and counts as
#: lost if a worker misses it
KEPT = 90.0  # a cache saves its state every minute
MOST_BYTES = 64 << 20  #: bytes of the turns that a live probe keeps -> the oldest is dropped: `replay_evicted`
MOST_OF_TURN = 8 << 20  # bytes of one turn: its reply fits in a message
_REQUESTS_AT_ONCE = 16
_OVERHEAD = 512  # bytes that a message costs besides its body


class ReplayWindow:
    """The messages of the last turns, by turn.

    `evicted` counts the turns that were dropped for their bytes, before their time. `awaited` states that a subscriber
    waits for the end of the open turn.
    """

    def __init__(self, start: str) -> None:
        self.evicted = 0
        self.awaited = False
        self._open = 0
        self._start = start
        self._turns: dict[int, tuple[float, int, Messages]] = {}  # when it was closed, its bytes, its messages
        self._bytes = 0

    def add(self, turn: int, messages: Messages, now: float) -> None:
        """Keep the messages of a turn that was closed now, and drop those that are too old or too much."""
        self._open, self.awaited = turn + 1, False
        size = sum(len(body) + _OVERHEAD for _, body in messages)
        if size > MOST_OF_TURN:
            self.evicted += 1
            return
        self._turns[turn] = now, size, messages
        self._bytes += size
        while self._oldest_closed() <= now - KEPT:
            self._drop()
        while self._bytes > MOST_BYTES:
            self.evicted += 1
            self._drop()

    def serve(self, server: Server) -> None:
        """Answer waiting requests: one for turns costs the main loop about a millisecond, and no flood may hold it."""
        for _ in range(_REQUESTS_AT_ONCE):
            request = server.receive()
            if request is None:
                return
            replay = self._replay(request.body)
            request.reply(encode_replay(replay))
            if replay.messages:
                return

    def _replay(self, body: bytes) -> Replay:
        """Return the turns that a request asks for, as many as fit in a reply."""
        nothing = Replay([], start=self._start)
        try:
            request = decode_request(body)
        except BadMessage:
            return nothing
        if request.ends is not None and request.start in ("", self._start):
            self.awaited |= self._open <= request.ends
        if request.ends is not None or request.start != self._start or not self._turns:
            return nothing
        messages: Messages = []
        size, turn = 0, self._first_from(request.after + 1)
        while turn in self._turns and size < AT_ONCE:
            messages += self._turns[turn][2]
            size += self._turns[turn][1]
            turn += 1
        return Replay(messages, max(turn - 1, 0), self._start)

    def _first_from(self, turn: int) -> int:
        """Return the first turn from this one on that is kept; turns before the window and large ones are not."""
        return turn if turn in self._turns else next((kept for kept in self._turns if kept > turn), turn)

    def _oldest_closed(self) -> float:
        return next(iter(self._turns.values()))[0]

    def _drop(self) -> None:
        self._bytes -= self._turns.pop(next(iter(self._turns)))[1]
