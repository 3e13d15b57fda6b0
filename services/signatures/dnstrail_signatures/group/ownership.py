"""Ownership: which worker of a group handles an event, by its actor and its turn (docs/use/signatures.md)."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import NamedTuple

MAX_ACTORS = 16384  # whose owner is remembered
_MAX_SHARES = 8  # different sets of members that are remembered


class Span(NamedTuple):
    """The turns of one start whose events a worker handles, if it owns their actors; `last` None: all later ones."""

    first: int
    last: int | None = None

    def holds(self, turn: int) -> bool:
        """Return whether a turn lies in the span."""
        return self.first <= turn and (self.last is None or turn <= self.last)


class Share:
    """The part of a worker among some members: the actors for which its hash is the highest (rendezvous hashing).

    Without members nothing is owned.
    """

    def __init__(self, me: str, members: tuple[str, ...]) -> None:
        self.members = members
        self.whole = members == (me,)
        self._me = me
        self._known: dict[str, bool] = {}

    def owns(self, actor: str) -> bool:
        """Return whether the worker owns an actor."""
        owned = self._known.get(actor)
        if owned is None:
            if len(self._known) >= MAX_ACTORS:
                self._known.clear()
            owned = self._known[actor] = self._me == owner(actor, self.members)
        return owned


def owner(actor: str, members: tuple[str, ...]) -> str | None:
    """Return the member that owns an actor."""
    return max(members, key=lambda member: (_weight(actor, member), member), default=None)


def _weight(actor: str, member: str) -> bytes:
    return blake2b(f"{member}\0{actor}".encode(errors="replace"), digest_size=8).digest()


class Owners:
    """The members as one worker knows them: the spans of each, by start.

    A start that the worker does not know has no owner yet. A turn of a known start that no member handles belongs to
    the worker itself, so that every worker that is in doubt handles the event.
    """

    def __init__(self, me: str, spans: Mapping[str, Mapping[str, Span]]) -> None:
        self.spans = spans
        self._me = me
        self._shares: dict[tuple[str, ...], Share] = {}
        self._latest = {start: self._after_changes(known) for start, known in spans.items()}

    def share(self, start: str, turn: int) -> Share:
        """Return the share of the worker in one turn."""
        latest = self._latest.get(start)
        if latest is None:
            return self._of(())
        since, share = latest
        return share if turn >= since else self._in(self.spans[start], turn)

    def _after_changes(self, spans: Mapping[str, Span]) -> tuple[int, Share]:
        """Return the turn from which the members are the same for ever, and the share from then on."""
        changes = (span.first if span.last is None else max(span.first, span.last + 1) for span in spans.values())
        since = max(changes, default=0)
        return since, self._in(spans, since)

    def _in(self, spans: Mapping[str, Span], turn: int) -> Share:
        return self._of(tuple(sorted(one for one, span in spans.items() if span.holds(turn))) or (self._me,))

    def _of(self, members: tuple[str, ...]) -> Share:
        share = self._shares.get(members)
        if share is None:
            if len(self._shares) >= _MAX_SHARES:
                self._shares.clear()
            share = self._shares[members] = Share(self._me, members)
        return share
