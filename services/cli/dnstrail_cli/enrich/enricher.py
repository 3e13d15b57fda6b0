"""The lines of other tools on their way: each waits until its lookup is due, and leaves in its order."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from dnstrail.process.terminal import json_bytes
from dnstrail_cli.enrich.asking import Trail
from dnstrail_cli.enrich.formats import Fields, ReadEvent
from dnstrail_cli.enrich.lines import Piece
from dnstrail_cli.enrich.mapping import value_at

#: seconds after its event for which a line waits: the cache may receive the answer before it only then
SETTLED: Final = 0.5
#: bytes of lines that wait for their lookups, with 512 for each line -> no more are read before some are written
MOST_HELD: Final = 64 << 20
_OF_LINE: Final = 512  # bytes that a line takes beside its own: a million empty lines are not small
#: connections with a time whose trails `dnstrail enrich` keeps, for further lines -> the oldest is evicted
MOST_KNOWN: Final = 16_384
_AT_ONCE: Final = 256  # lines of one lookup
_SECOND: Final = 1_000_000_000
_DOMAIN: Final = "destination.domain"
_NESTED: Final = ("destination", "domain")
_OURS: Final = "dnstrail"
_DECODE: Final = msgspec.json.Decoder(dict[str, Any]).decode
#: the counts of lines, by what became of each: a name was added, none is known, no connection is in it, it is no JSON
#: object, too long, or enriched before, or no cache answered
NAMED, UNNAMED, NO_CONNECTION, NO_JSON, TOO_LONG, ENRICHED, UNASKED = (
    "named",
    "unnamed",
    "without a connection",
    "no JSON",
    "too long",
    "enriched before",
    "not asked",
)
COUNTS: Final = (NAMED, UNNAMED, NO_CONNECTION, NO_JSON, TOO_LONG, ENRICHED, UNASKED)


_Key = tuple[tuple[str, str | int], ...]


class _Line(NamedTuple):
    """A line, its connection if it has one to look up, and the time (monotonic) from which it may leave."""

    raw: bytes
    asked: Fields | None
    due: float
    has_domain: bool = False


class Enricher:
    """Lines that wait, the first come first. `counts` counts the lines by what became of them.

    `ask` returns the trails of connections, or None if nobody answers. `monotonic` and `wall` are clocks in seconds.
    """

    def __init__(
        self,
        read_event: ReadEvent,
        ask: Callable[[Sequence[Fields]], Sequence[Trail] | None],
        monotonic: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self.counts = Counter(dict.fromkeys(COUNTS, 0))
        self._read_event = read_event
        self._ask = ask
        self._monotonic = monotonic
        self._wall = wall
        self._waiting: deque[_Line] = deque()
        self._held = 0
        self._known: dict[_Key, tuple[bytes, bytes]] = {}

    @property
    def full(self) -> bool:
        """Whether no more lines may be added."""
        return self._held >= MOST_HELD

    @property
    def due(self) -> float | None:
        """The seconds until the first line may leave; None if none waits."""
        return max(self._waiting[0].due - self._monotonic(), 0.0) if self._waiting else None

    def add(self, pieces: Sequence[Piece]) -> None:
        """Add lines, and the pieces of lines that are too long."""
        now, wall = self._monotonic(), int(self._wall() * _SECOND)
        for piece in pieces:
            self._held += len(piece.raw) + _OF_LINE
            if piece.whole:
                self._waiting.append(self._line(piece.raw, now, wall))
            else:
                self.counts[TOO_LONG] += piece.first
                self._waiting.append(_Line(piece.raw, None, now))

    def take(self, *, at_once: bool = False) -> bytes:
        """Remove the lines that may leave, or with `at_once` any, and return them as they go out; b"" if none may."""
        now = self._monotonic()
        taken: list[_Line] = []
        while self._waiting and len(taken) < _AT_ONCE and (at_once or self._waiting[0].due <= now):
            taken.append(self._waiting.popleft())
        self._held -= sum(len(line.raw) + _OF_LINE for line in taken)
        added = self._added([line.asked for line in taken if line.asked is not None])
        return b"".join(line.raw if line.asked is None else self._out(line, added) for line in taken)

    def _added(self, connections: Sequence[Fields]) -> dict[_Key, tuple[bytes, bytes]]:
        """Return what is added to the lines of some connections, without those that nobody answered.

        An answer as of a time that is settled remains, unless something about that time is unknown.
        """
        wanted = {_key(one): one for one in connections}
        added = {key: self._known[key] for key in wanted if key in self._known}
        asked = {key: one for key, one in wanted.items() if key not in added}
        trails = self._ask([*asked.values()]) if asked else ()
        settled = int((self._wall() - SETTLED) * _SECOND)
        for (key, one), trail in zip(asked.items(), trails or (), strict=trails is not None):
            added[key] = fields = _fields(trail)
            if int(one.get("at_ns", settled + 1)) <= settled and trail.get("history", True):
                self._known[key] = fields
        while len(self._known) > MOST_KNOWN:
            del self._known[next(iter(self._known))]
        return added

    def _out(self, line: _Line, added: Mapping[_Key, tuple[bytes, bytes]]) -> bytes:
        fields = added.get(_key(line.asked or {}))
        if fields is None:
            self.counts[UNASKED] += 1
            return line.raw
        domain, others = fields
        self.counts[NAMED if domain else UNNAMED] += 1
        return _inserted(line.raw, others if line.has_domain else domain + others)

    def _line(self, raw: bytes, now: float, wall: int) -> _Line:
        try:
            event = _DECODE(raw)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return self._pass(raw, NO_JSON, now)
        if _OURS in event:
            return self._pass(raw, ENRICHED, now)
        asked = self._read_event(event)
        if asked is None:
            return self._pass(raw, NO_CONNECTION, now)
        at = asked.get("at_ns", wall)
        age = (wall - at) / _SECOND if isinstance(at, int) else 0.0
        has_domain = _DOMAIN in event or value_at(event, _NESTED) is not None
        return _Line(raw, asked, now + min(max(SETTLED - age, 0.0), SETTLED), has_domain)

    def _pass(self, raw: bytes, count: str, now: float) -> _Line:
        self.counts[count] += 1
        return _Line(raw, None, now)


def _fields(trail: Trail) -> tuple[bytes, bytes]:
    """Return what a trail adds to a line: the field of the name, b"" without one, and that of all others."""
    others = {name: value for name, value in trail.items() if name != "dns_root"}
    name = trail.get("dns_root")
    others.setdefault("state", "unknown")
    domain = b"," + json_bytes({_DOMAIN: name})[1:-1] if name else b""
    return domain, b"," + json_bytes({_OURS: others})[1:-1]


def _key(connection: Fields) -> _Key:
    return tuple(connection.items())


def _inserted(raw: bytes, fields: bytes) -> bytes:
    """Return a line whose object has further fields at its end; a connection in it has some before."""
    end = raw.rindex(b"}")
    return raw[:end] + fields + raw[end:]
