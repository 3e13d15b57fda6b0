"""The answers that were skipped while the cache was behind: whose they were, and of which turns."""

from __future__ import annotations

from collections import Counter, OrderedDict

from dnstrail.image.answer import CGROUP, PartyKey
from dnstrail.protocol.batches import Mark
from dnstrail.protocol.lookups import Request

MOST_TURNS = 16384  # beyond it the oldest counts as whole: no probe replays it any more
MOST_OWNERS = 64  # of one turn; beyond it answers of all owners count as skipped
MOST_COUNTED = 1024  # owners whose skipped answers are counted; those of further ones count together
_FURTHER: PartyKey = ("", "", 0)


class SkippedTurns:
    """The owners of skipped answers, by the turn of the answer; `by_owner` counts the answers of each."""

    def __init__(self) -> None:
        self.by_owner: Counter[PartyKey] = Counter()
        self._owners: OrderedDict[Mark, set[PartyKey]] = OrderedDict()

    def note(self, mark: Mark, owner: PartyKey) -> None:
        """Note that an answer of an owner was skipped."""
        self.by_owner[owner if owner in self.by_owner or len(self.by_owner) < MOST_COUNTED else _FURTHER] += 1
        owners = self._owners.get(mark)
        if owners is None:
            owners = self._owners[mark] = set()
            if len(self._owners) > MOST_TURNS:
                self._owners.popitem(last=False)
        if len(owners) <= MOST_OWNERS:
            owners.add(owner)

    def concern(self, request: Request) -> bool:
        """Return whether answers that concern a request were skipped in one of its turns.

        The answers of its owner concern it, or all answers if it names no owner.
        """
        return any(self._lacks(mark, request.owner) for mark in request.after)

    def _lacks(self, mark: Mark, owner: tuple[str, int] | None) -> bool:
        owners = self._owners.get(mark)
        if not owners:
            return False
        return owner is None or len(owners) > MOST_OWNERS or (owner[0], CGROUP, owner[1]) in owners
