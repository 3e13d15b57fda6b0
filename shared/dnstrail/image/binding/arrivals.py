"""The questions and answers of each process, as they arrived, until a connection asks what its process has asked."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable

import msgspec

from dnstrail.dns.header import HeaderQuestion
from dnstrail.image.answer import Answer
from dnstrail.image.binding.processes import Identity
from dnstrail.image.counts import Counts
from dnstrail.image.record import Sighting

#: queries, answers and closes of DNS sockets of one process that arrived since its last connection -> the oldest is
#: evicted: `evicted_questions`
MAX_OF_PROCESS = 2048
MORE = 16  # relations of an answer, or addresses of a question, by which it counts once more


class SentQuery(msgspec.Struct, frozen=True, gc=False):
    """A query that a process sent by UDP: its question, the thread and the socket that sent it, and its stamp."""

    question: HeaderQuestion
    thread: int
    socket: int
    stamp: int


class ReceivedAnswer(msgspec.Struct, frozen=True, gc=False):
    """An answer that a process received, and the stamp of its query."""

    answer: Answer
    sighting: Sighting
    asked: int


class Close(msgspec.Struct, frozen=True, gc=False):
    """The close of a UDP socket by which a process asked."""

    socket: int
    stamp: int


Arrival = SentQuery | ReceivedAnswer | Close


class Arrivals:
    """What arrived for each process, in order. Most processes never connect: nothing else is done for their answers.

    `held` is the number of all arrivals; an answer counts once more for MORE relations. Evictions are counted as
    `evicted_questions`.
    """

    def __init__(self, counters: Counts) -> None:
        self.counters = counters
        self.held = 0
        self._of: OrderedDict[Identity, deque[Arrival]] = OrderedDict()

    def add(self, owner: Identity, arrival: Arrival, times: int) -> bool:
        """Add what arrived last, which counts so many times, and return whether nothing of the process was held.

        Beyond the bound of the process its oldest arrival is evicted.
        """
        self.held += times
        arrived = self._of.get(owner)
        if arrived is None:
            self._of[owner] = deque((arrival,))
            return True
        arrived.append(arrival)
        if len(arrived) > MAX_OF_PROCESS:
            self._evict(arrived)
        return False

    def take(self, owner: Identity) -> Iterable[Arrival]:
        """Return what arrived for a process since the last call, and hold it no longer."""
        arrived = self._of.pop(owner, ())
        self.held -= sum(map(_weight, arrived))
        return arrived

    def holds(self, owner: Identity) -> bool:
        """Return whether anything that arrived for a process is held."""
        return owner in self._of

    def evict_oldest(self) -> Identity:
        """Evict an arrival of the process whose arrivals have waited longest; return this process."""
        owner, arrived = next(iter(self._of.items()))
        self._evict(arrived)
        if not arrived:
            del self._of[owner]
        return owner

    def _evict(self, arrived: deque[Arrival]) -> None:
        self.held -= _weight(arrived.popleft())
        self.counters["evicted_questions"] += 1


def weight(relations: int) -> int:
    """Return how often an answer with so many relations counts, or a question with so many addresses."""
    return 1 + relations // MORE


def _weight(arrival: Arrival) -> int:
    return weight(len(arrival.answer.edges)) if isinstance(arrival, ReceivedAnswer) else 1
