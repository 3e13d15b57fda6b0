"""Lookups of a time that the image no longer remembers: the worker of the history answers them."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

from dnstrail.bus import Bus, Endpoint, Requester, ServedRequest
from dnstrail.bus.ipc import socket_path
from dnstrail.protocol.lookups import (
    OVERLOADED,
    ConnectionsRequest,
    GetManyRequest,
    RefusedRequestError,
    Request,
    TrailManyRequest,
)
from dnstrail.protocol.past_lookups import OF_THE_PAST, PATIENCE, PastImage, encode_past, is_reply
from dnstrail_cache.lookups.open_connections import remembers_connections
from dnstrail_cache.state.cache_state import CacheState

MAX_PAST = 64  #: lookups of a past time that wait for the history -> `overloaded`
MAX_PAST_OF_CLIENT = 8  #: the same of one client -> `overloaded`
MAX_PAST_BYTES = 8 << 20  #: bytes of the lookups of a past time that wait -> `overloaded`
MAX_REPLY = 4 << 20  #: bytes of a reply of the history -> the cache answers by itself: `past_unanswered`
AT_ONCE = 2  # lookups that the history has at one time: it answers one after another


@dataclass(frozen=True, slots=True)
class PastLookup:
    """A request that arrived at `began`, which the history answers until `deadline` (monotonic), else the cache."""

    served: ServedRequest
    request: Request
    began: float
    body: bytes

    @property
    def deadline(self) -> float:
        """The time until which it waits."""
        return self.began + PATIENCE


class PastLookups:
    """The lookups that wait for the history, the first come first. `waiting_ends` are the ends that await its replies.

    Nothing here waits: a history that is away, slow or faulty delays its own lookups alone. While nobody serves its
    socket, no lookup waits for it.
    """

    def __init__(self, bus: Bus, address: str) -> None:
        self._bus = bus
        self._address = address
        self._path = socket_path(address)
        self._waiting: deque[PastLookup] = deque()
        self._asked: dict[Requester, PastLookup] = {}
        self._free: list[Requester] = []
        self._of_client: Counter[bytes] = Counter()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._asked)

    @property
    def waiting_ends(self) -> tuple[Endpoint, ...]:
        """The ends at which replies arrive."""
        return tuple(self._asked)

    def forward(self, served: ServedRequest, request: Request, state: CacheState, began: float) -> bool:
        """Take a lookup that the history answers; False if the cache answers it by itself.

        Raises:
            RefusedRequestError: too many wait already.
        """
        if not _is_past(request, state) or not self._path.exists():
            return False
        bounds = state.image.bounds
        body = encode_past(served.body, PastImage(bounds.grace, bounds.history, state.several))
        if (
            len(self) >= MAX_PAST
            or self._bytes + len(body) > MAX_PAST_BYTES
            or self._of_client[served.client] >= MAX_PAST_OF_CLIENT
        ):
            raise RefusedRequestError(OVERLOADED, f"{len(self)} lookups of a past time wait already")
        self._waiting.append(PastLookup(served, request, began, body))
        self._of_client[served.client] += 1
        self._bytes += len(body)
        self._send()
        return True

    def take(self, now: float) -> list[tuple[PastLookup, bytes | None]]:
        """Return the lookups that are answered, each with its reply, and those that the cache answers: with None."""
        done: list[tuple[PastLookup, bytes | None]] = []
        for end, lookup in [*self._asked.items()]:
            reply = end.reply()
            if reply is None and now < lookup.deadline:
                continue
            del self._asked[end]
            self._free.append(end)  # the next request replaces one that was not answered
            usable = reply is not None and len(reply) <= MAX_REPLY and is_reply(reply)
            done.append((lookup, reply if usable else None))
        while self._waiting and now >= self._waiting[0].deadline:
            done.append((self._waiting.popleft(), None))
        for lookup, _ in done:
            self._forget(lookup)
        self._send()
        return done

    def _send(self) -> None:
        while self._waiting and len(self._asked) < AT_ONCE:
            end = self._free.pop() if self._free else self._bus.requester(self._address)
            if not end.send(self._waiting[0].body):
                self._free.append(end)
                return
            self._asked[end] = self._waiting.popleft()

    def _forget(self, lookup: PastLookup) -> None:
        client = lookup.served.client
        self._of_client[client] -= 1
        self._bytes -= len(lookup.body)
        if not self._of_client[client]:
            del self._of_client[client]


def _is_past(request: Request, state: CacheState) -> bool:
    """Return whether a request is for a time that the image does not remember, or for the history alone.

    A signature asks about an event at hand, by its mark: the history knows nothing of it yet, and costs more.
    """
    if not isinstance(request, OF_THE_PAST) or request.after or not state.live:
        return False
    if isinstance(request, TrailManyRequest):
        return request.history
    at = state.moment(request.at, request.at_ns)
    if at is None:
        return False
    if isinstance(request, ConnectionsRequest):
        return not remembers_connections(at, state)
    connection = None if isinstance(request, GetManyRequest) else request.connection
    return not state.image.remembers(at, connection)
