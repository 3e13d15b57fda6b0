"""Lookups that wait for the turns of their events, so that none is answered from before its event (DESIGN 3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dnstrail.bus import ServedRequest
from dnstrail.protocol.lookups import Request
from dnstrail.protocol.turn_follower import TurnFollower

MAX_PARKED = 1024


@dataclass(frozen=True, slots=True)
class PendingLookup:
    """A request that waits until `deadline` on the monotonic clock."""

    served: ServedRequest
    request: Request
    deadline: float


class PendingLookups:
    """The waiting lookups, in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: list[PendingLookup] = []

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether no further one may wait."""
        return len(self._waiting) >= MAX_PARKED

    def park(self, waiting: PendingLookup) -> None:
        """Let one wait."""
        self._waiting.append(waiting)

    def ready(self, turns: TurnFollower, now: float) -> Iterator[tuple[PendingLookup, bool]]:
        """Take out those that can be answered, each with whether all of its turns were seen."""
        still: list[PendingLookup] = []
        for waiting in self._waiting:
            complete = is_complete(waiting.request, turns)
            if complete is None and now < waiting.deadline:
                still.append(waiting)
            else:
                yield waiting, bool(complete)
        self._waiting = still


def is_complete(request: Request, turns: TurnFollower) -> bool | None:
    """Whether all marks of a request are reached: True, False (one never will be), or None (not yet)."""
    reached = [turns.reached(mark) for mark in request.after]
    if False in reached:
        return False
    return None if None in reached else True
