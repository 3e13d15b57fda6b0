"""Pending lookups: those that wait for the turns of their events, so that none answers from before its event."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

from dnstrail.bus import ServedRequest
from dnstrail.protocol.lookups import OVERLOADED, RefusedRequestError, Request
from dnstrail.protocol.turn_follower import TurnFollower
from dnstrail_cache.losses import SkippedTurns

MAX_PENDING = 1024  #: waiting lookups -> `overloaded`
MAX_PENDING_OF_CLIENT = 64  #: waiting lookups of one client -> `overloaded`
MAX_PENDING_BYTES = 32 << 20  #: bytes of waiting lookups -> `overloaded`
MAX_PENDING_BYTES_OF_CLIENT = 2 << 20  #: bytes of the waiting lookups of one client -> `overloaded`


@dataclass(frozen=True, slots=True)
class PendingLookup:
    """A request that waits until `deadline` on the monotonic clock."""

    served: ServedRequest
    request: Request
    deadline: float


class PendingLookups:
    """The waiting lookups in the order of their arrival. Each can be answered by its deadline.

    The queue holds at most 1,024 lookups of 32 MiB, and 64 of one client of 2 MiB, so that no client takes the places
    of all others.
    """

    def __init__(self) -> None:
        self._waiting: list[PendingLookup] = []  # the earliest deadline first
        self._ready: deque[tuple[PendingLookup, bool]] = deque()  # each with whether all of its marks are reached
        self._received = 0  # what the follower had received when the marks were checked last
        self._of_client: Counter[bytes] = Counter()
        self._bytes_of_client: Counter[bytes] = Counter()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._ready)

    def add(self, lookup: PendingLookup) -> None:
        """Append a lookup to the queue.

        Raises:
            RefusedError: the queue is full, or the client has its share in it.
        """
        client, size = lookup.served.client, len(lookup.served.body)
        if len(self) >= MAX_PENDING or self._bytes_of_client.total() + size > MAX_PENDING_BYTES:
            raise RefusedRequestError(OVERLOADED, f"{len(self)} lookups wait for their events already")
        if (
            self._of_client[client] >= MAX_PENDING_OF_CLIENT
            or self._bytes_of_client[client] + size > MAX_PENDING_BYTES_OF_CLIENT
        ):
            raise RefusedRequestError(
                OVERLOADED, f"{self._of_client[client]} lookups of this client wait for their events"
            )
        self._waiting.append(lookup)
        self._of_client[client] += 1
        self._bytes_of_client[client] += size

    @property
    def has_ready(self) -> bool:
        """True if lookups can be answered."""
        return bool(self._ready)

    def look(self, follower: TurnFollower, skipped: SkippedTurns, now: float) -> None:
        """Find the lookups that can be answered, now that the follower has received more, or time has passed."""
        if not self._waiting or (follower.received == self._received and now < self._waiting[0].deadline):
            return
        self._received = follower.received
        waiting: list[PendingLookup] = []
        for lookup in self._waiting:
            complete = is_complete(lookup.request, follower, skipped)
            if complete is None and now < lookup.deadline:
                waiting.append(lookup)
            else:
                self._ready.append((lookup, bool(complete)))
        self._waiting = waiting

    def take_ready(self) -> tuple[PendingLookup, bool]:
        """Remove and return the first lookup that can be answered, with whether all of its marks are reached."""
        lookup, complete = self._ready.popleft()
        client = lookup.served.client
        self._of_client[client] -= 1
        self._bytes_of_client[client] -= len(lookup.served.body)
        if not self._of_client[client]:
            del self._of_client[client], self._bytes_of_client[client]
        return lookup, complete


def is_complete(request: Request, follower: TurnFollower, skipped: SkippedTurns) -> bool | None:
    """Return whether all marks of a request are reached: True, None (not yet), or False.

    False: one is out of reach, or answers of its turn that concern the request were skipped.
    """
    if not request.after:
        return True
    reached = [follower.reached(mark) for mark in request.after]
    if False in reached:
        return False
    return None if None in reached else not skipped.concern(request)
