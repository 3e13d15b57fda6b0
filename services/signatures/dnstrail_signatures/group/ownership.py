"""Ownership: which worker of a group handles an event, by its actor and its turn (docs/use/signatures.md)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b

from dnstrail.captured import Flow, Process
from dnstrail_signatures.detection.subjects import actor_of_client, actor_of_process

MAX_ACTORS = 16384  # whose owner is remembered
_MAX_SHARES = 8  # different sets of members that are remembered


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


@dataclass(frozen=True, slots=True)
class Actors:
    """The actors of one host that are in one of some shares and in none of some others."""

    host: str
    shares: Collection[Share]
    without: Collection[Share] = ()

    def owns_process(self, process: Process) -> bool:
        """Return whether a process, or its container, is one of them."""
        return self._has(actor_of_process(process, self.host))

    def owns_client(self, flow: Flow | None, payload: bytes) -> bool:
        """Return whether the client of an event is one of them."""
        return self._has(actor_of_client(flow, payload, self.host))

    def _has(self, actor: str) -> bool:
        for one in self.shares:  # most often there is one, and none without
            if one.owns(actor):
                return not self.without or not any(other.owns(actor) for other in self.without)
        return False


class Owners:
    """The members of the group as one reply of the cache states them for some starts.

    `ahead` holds for a member the starts that it handles from a later turn, or (None) not yet. A turn that no member
    handles belongs to the worker itself, and so does a start that the reply does not cover: every worker that is in
    doubt handles the event.
    """

    def __init__(
        self, me: str, ahead: Mapping[str, Mapping[str, int | None]] | None = None, starts: Collection[str] = ()
    ) -> None:
        self.me = me
        self.members = {me: {}, **(ahead or {})}
        self.starts = starts
        self._ahead: dict[str, dict[str, int | None]] = {}  # by start and member
        for member, firsts in self.members.items():
            for start, first in firsts.items():
                self._ahead.setdefault(start, {})[member] = first
        self._shares: dict[tuple[str, ...], Share] = {}
        self._all = self._of(self.members)
        self._alone = self._of((me,))

    def share(self, start: str, turn: int) -> Share:
        """Return the share of the worker in one turn."""
        if start not in self.starts:
            return self._alone
        ahead = self._ahead.get(start)
        if ahead is None or all(first is not None and first <= turn for first in ahead.values()):
            return self._all
        return self._of(one for one in self.members if (first := ahead.get(one, 0)) is not None and first <= turn)

    def changes(self, start: str) -> set[int]:
        """Return the turns from which further members handle a start."""
        return {first for first in self._ahead.get(start, {}).values() if first is not None}

    def stated(self, start: str) -> bool:
        """Return whether all members have received a start."""
        return start in self.starts and None not in self._ahead.get(start, {}).values()

    def after(self, start: str, turn: int) -> tuple[object, ...]:
        """Return what the shares of all turns after one follow from."""
        ahead = self._ahead.get(start, {}).items()
        later = {(one, first) for one, first in ahead if first is None or first > turn + 1}
        return start in self.starts, self.members.keys(), later

    def _of(self, members: Iterable[str]) -> Share:
        chosen = tuple(sorted(members)) or (self.me,)
        share = self._shares.get(chosen)
        if share is None:
            if len(self._shares) >= _MAX_SHARES:
                self._shares.clear()
            share = self._shares[chosen] = Share(self.me, chosen)
        return share
