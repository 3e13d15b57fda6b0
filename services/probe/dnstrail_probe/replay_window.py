"""The last turns of a live probe, for subscribers that restart: bounded in bytes and in time."""

from __future__ import annotations

from dnstrail.bus import Server
from dnstrail.errors import BadMessage
from dnstrail.protocol.replays import AT_ONCE, Messages, Replay, decode_request, encode_replay

KEPT = 90.0  # seconds: a cache saves its state every minute
MOST_BYTES = 64 << 20
MOST_OF_TURN = 8 << 20  # bytes of one turn: its reply fits in a message
_OVERHEAD = 512  # bytes that a message costs besides its body


class ReplayWindow:
    """The messages of the last turns, by turn.

    `evicted` counts the turns that were dropped for their bytes, before their time.
    """

    def __init__(self, start: str) -> None:
        self.evicted = 0
        self._start = start
        self._turns: dict[int, tuple[float, int, Messages]] = {}  # when it was closed, its bytes, its messages
        self._bytes = 0

    def add(self, turn: int, messages: Messages, now: float) -> None:
        """Keep the messages of a turn that was closed now, and drop those that are too old or too much."""
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
        """Answer one of the waiting requests. It costs the main loop about a millisecond, so that no flood holds it."""
        request = server.receive()
        if request is not None:
            request.reply(encode_replay(self._replay(request.body)))

    def _replay(self, body: bytes) -> Replay:
        """Return the turns that a request asks for, as many as fit in a reply."""
        try:
            request = decode_request(body)
        except BadMessage:
            return Replay([])
        if request.start != self._start or not self._turns:
            return Replay([])
        messages: Messages = []
        size, turn = 0, self._first_from(request.after + 1)
        while turn in self._turns and size < AT_ONCE:
            messages += self._turns[turn][2]
            size += self._turns[turn][1]
            turn += 1
        return Replay(messages, max(turn - 1, 0))

    def _first_from(self, turn: int) -> int:
        """Return the first turn from this one on that is kept; turns before the window and large ones are not."""
        return turn if turn in self._turns else next((kept for kept in self._turns if kept > turn), turn)

    def _oldest_closed(self) -> float:
        return next(iter(self._turns.values()))[0]

    def _drop(self) -> None:
        self._bytes -= self._turns.pop(next(iter(self._turns)))[1]
