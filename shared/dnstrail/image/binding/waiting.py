"""The questions and answers of each process: as they arrived, then as questions that wait for a connection."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from itertools import chain

import msgspec

from dnstrail.dns.header import HeaderQuestion
from dnstrail.image.answer import Answer
from dnstrail.image.binding.processes import Identity
from dnstrail.image.bounds import SECOND, Counts
from dnstrail.image.record import Sighting

#: queries, answers and closes of DNS sockets of one process that arrived since its last connection -> the oldest is
#: evicted: `evicted_questions`
MAX_OF_PROCESS = 2048
MORE = 16  # relations of an answer, or addresses of a question, by which it counts once more
MAX_NAMES = 256  #: names of one process with questions that wait -> the oldest is evicted: `evicted_questions`
MAX_OF_NAME = 64  #: questions of one process for one name that wait -> the oldest is evicted: `evicted_questions`
MAX_TOGETHER = 16  #: types, and threads, of the queries for one name that are one question -> another question begins
TOGETHER = SECOND  # within which queries of several types for one name are one question
STAGGER = SECOND // 10  # no client tries the next address earlier, unless the attempt before failed (RFC 8305)
PATIENCE = 10 * SECOND  # after which an attempt leads to no other one
UNKNOWN = 1 << 62
AGAIN, WAITING, MAYBE, REPEATED = range(4)  # readiness of a question for a connection, the likeliest first


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


class ConnectionAttempt:
    """A connection that a question led to: `connected` is None until its outcome is known."""

    __slots__ = ("address", "connected", "stamp", "thread")

    def __init__(self, stamp: int, address: str, thread: int) -> None:
        self.stamp = stamp
        self.address = address
        self.thread = thread
        self.connected: bool | None = None


class WaitingQuestion:
    """A name that a process asked. Queries of several types for one name (A, AAAA, HTTPS) are one question.

    `asked` is the time of its first query. `threads` sent its queries, and `open` are the sockets of queries that are
    not closed yet. `types` states for each type whether its answer is known. `given` contains the addresses of its
    answers, each with the time of the answer and the end. `returned` is the time at which its last socket was closed,
    if that is known. `first` and `last` are the first and the last connection that spent it, and `tried` contains the
    addresses of all. A question that no connection spent waits for its first one.

    Its weight states its size: `given` bounds `tried`, and MAX_TOGETHER bounds `types`, `threads` and `open`.
    """

    __slots__ = ("asked", "first", "given", "last", "name", "open", "owner", "returned", "threads", "tried", "types")

    def __init__(self, owner: Identity, name: str, asked: int) -> None:
        self.owner = owner
        self.name = name
        self.asked = asked
        self.returned = UNKNOWN
        self.threads: set[int] = set()
        self.open: set[int] = set()
        self.types: dict[int, bool] = {}
        self.given: dict[str, tuple[int, int]] = {}
        self.first: ConnectionAttempt | None = None
        self.last: ConnectionAttempt | None = None
        self.tried: set[str] = set()

    @property
    def weight(self) -> int:
        """How often the question counts among those that wait."""
        return weight(len(self.given))

    def has_room(self, rdtype: int, thread: int) -> bool:
        """Return whether a query of a type by a thread leaves it within MAX_TOGETHER."""
        return (rdtype in self.types or len(self.types) < MAX_TOGETHER) and (
            thread in self.threads or len(self.threads) < MAX_TOGETHER
        )

    def spend(self, attempt: ConnectionAttempt) -> None:
        """Note a connection that it led to."""
        self.first = self.first or attempt
        self.last = attempt
        self.tried.add(attempt.address)

    def gave(self, address: str, stamp: int) -> bool:
        """Return whether an answer had given an address by then, and the address was live."""
        since, until = self.given.get(address, (stamp, stamp))
        return since <= stamp < until

    def was_given(self, address: str, stamp: int, within: int) -> bool:
        """Return whether an answer gave an address at most so long before."""
        given = self.given.get(address)
        return given is not None and stamp - given[0] <= within

    def gave_ipv6(self, stamp: int) -> bool:
        """Return whether it waits for its first connection, and an answer had given an address of IPv6 by then."""
        return self.last is None and any(":" in address and self.gave(address, stamp) for address in self.given)

    def readiness(self, address: str, stamp: int) -> int | None:
        """Return the readiness for a connection to an address; None if the question is no candidate.

        A client tries the addresses of one name in turn, until one connects.
        """
        if not self.gave(address, stamp):
            return None
        last = self.last
        if last is None:
            return WAITING
        if stamp - last.stamp > PATIENCE:
            return None
        if address in self.tried:
            return REPEATED
        return MAYBE if last.connected is None and stamp - last.stamp < STAGGER else AGAIN


class WaitingQuestions:
    """The questions of each process that no connection has reached yet.

    `held` is their number; a question counts once more for MORE addresses. Those of ended processes are evicted first,
    then the oldest of the process least recently answered. Evictions are counted as `evicted_questions`.
    """

    def __init__(self, counters: Counts) -> None:
        self.counters = counters
        self.held = 0
        self._of: OrderedDict[Identity, dict[str, list[WaitingQuestion]]] = OrderedDict()
        self._ended: OrderedDict[Identity, None] = OrderedDict()

    def answered(
        self,
        owner: Identity,
        thread: int,
        name: str,
        rdtype: int,
        asked: int,
        given: Iterable[tuple[str, tuple[int, int]]],
    ) -> None:
        """Note the addresses that an answer gave to the process that asked."""
        questions = self._questions(owner, name)
        question = _asking(questions, rdtype, thread) or _same(questions, rdtype, asked, thread)
        if question is None:
            question = self._add(questions, owner, name, asked)
        question.asked = min(question.asked, asked)
        if thread:
            question.threads.add(thread)
        question.types[rdtype] = True
        self.held -= question.weight
        question.given.update(given)
        self.held += question.weight
        self._bound(question)

    def asked(self, owner: Identity, query: SentQuery) -> None:
        """Note a query, which may have been sent before."""
        asked, thread, socket, stamp = query.question, query.thread, query.socket, query.stamp
        questions = self._questions(owner, asked.name)
        again = (
            each
            for each in questions
            if socket in each.open and asked.type in each.types and each.has_room(asked.type, thread)
        )
        question = next(again, None) or _same(questions, asked.type, stamp, thread)
        if question is None:
            question = self._add(questions, owner, asked.name, stamp)
        question.threads.add(thread)
        question.types.setdefault(asked.type, False)
        question.open.add(socket)
        self._bound(question)

    def closed(self, owner: Identity, close: Close) -> None:
        """Note the close of a socket: a question without open sockets has all its answers."""
        for question in [each for each in self.of(owner) if close.socket in each.open]:
            question.open.remove(close.socket)
            if not question.open and question.given:
                question.returned = close.stamp
            elif not question.open:
                self._drop(question)

    def of(self, owner: Identity) -> Iterator[WaitingQuestion]:
        """Yield the questions of a process."""
        return chain.from_iterable(self._of.get(owner, {}).values())

    def spend(self, question: WaitingQuestion, attempt: ConnectionAttempt) -> None:
        """Spend a question for a connection, with those by which the same thread asked the same name before."""
        for other in self._of.get(question.owner, {}).get(question.name, ()):
            if other is question or (other.last is None and other.threads & question.threads):
                other.spend(attempt)

    def drop_spent(self, question: WaitingQuestion, attempt: ConnectionAttempt) -> None:
        """Drop the questions that a connection spent which succeeded: for all but one it was the first one."""
        for other in [*self._of.get(question.owner, {}).get(question.name, ())]:
            if other is question or other.first is attempt:
                self._drop(other)

    @property
    def has_ended(self) -> bool:
        """True if there are questions of ended processes."""
        return bool(self._ended)

    def holds(self, owner: Identity) -> bool:
        """Return whether a question of a process is held."""
        return owner in self._of

    def evict(self) -> Identity:
        """Evict one question; return its process."""
        owner = next(iter(self._ended or self._of))
        self._evict(next(self.of(owner)))
        return owner

    def ended(self, owner: Identity) -> None:
        """Note the end of a process. Its children may still use its questions, which are evicted first."""
        if owner in self._of:
            self._ended[owner] = None

    def _questions(self, owner: Identity, name: str) -> list[WaitingQuestion]:
        """Return the questions of a process for a name; the process is the one answered last."""
        names = self._of.setdefault(owner, {})
        self._of.move_to_end(owner)
        return names.setdefault(name, [])

    def _add(self, questions: list[WaitingQuestion], owner: Identity, name: str, asked: int) -> WaitingQuestion:
        question = WaitingQuestion(owner, name, asked)
        questions.append(question)
        self.held += 1
        return question

    def _bound(self, question: WaitingQuestion) -> None:
        """Evict a question if the process of this one has too many."""
        names = self._of[question.owner]
        if len(names[question.name]) > MAX_OF_NAME:
            self._evict(names[question.name][0])
        elif len(names) > MAX_NAMES:
            self._evict(next(iter(names.values()))[0])

    def _evict(self, question: WaitingQuestion) -> None:
        self.counters["evicted_questions"] += 1
        self._drop(question)

    def _drop(self, question: WaitingQuestion) -> None:
        names = self._of[question.owner]
        names[question.name].remove(question)
        self.held -= question.weight
        question.given, question.tried = {}, set()  # a connection that it led to may hold it
        if not names[question.name]:
            del names[question.name]
        if not names:
            del self._of[question.owner]
            self._ended.pop(question.owner, None)


def candidate(
    questions: Iterable[WaitingQuestion], address: str, stamp: int, thread: int, *, ipv6: bool = False
) -> WaitingQuestion | None:
    """Return the question of a process that a connection most likely means: of its thread, else the oldest.

    A question whose sockets are open comes last: a resolver closes them before it hands over the addresses. The oldest
    is the one whose sockets were closed first, else the one that was asked first. A thread that asked another name
    after an attempt failed has given up the name before. `thread` is 0 for a connection of another process. `ipv6`
    states that clients begin with IPv6 where a name has it.
    """
    ready = [(readiness, each) for each in questions if (readiness := each.readiness(address, stamp)) is not None]
    own = (each.asked for readiness, each in ready if readiness == WAITING and thread in each.threads)
    latest = max(own, default=0)
    later = ipv6 and ":" not in address
    orders = [
        (
            bool(each.open),
            *_likelihood(each, readiness, thread, latest),
            later and each.gave_ipv6(stamp),
            each.returned,
            each.asked,
        )
        for readiness, each in ready
    ]
    return ready[orders.index(min(orders))][1] if orders else None


def _likelihood(question: WaitingQuestion, readiness: int, thread: int, latest: int) -> tuple[bool, int]:
    own = thread in question.threads and readiness != REPEATED
    last = question.last
    if readiness == AGAIN and last is not None:
        own = own or last.thread == thread
        if last.connected is False and last.stamp < latest:
            readiness = MAYBE
    return not own, readiness


def _asking(questions: list[WaitingQuestion], rdtype: int, thread: int) -> WaitingQuestion | None:
    """Return the question with a query of a type that waits for its answer; one of the same thread comes first."""
    found = [each for each in questions if each.types.get(rdtype) is False and each.has_room(rdtype, thread)]
    return min(found, key=lambda each: thread not in each.threads, default=None)


def _same(questions: list[WaitingQuestion], rdtype: int, asked: int, thread: int) -> WaitingQuestion | None:
    """Return the question to which a query of another type belongs; one of the same thread comes first."""
    found = [
        each
        for each in questions
        if rdtype not in each.types and abs(asked - each.asked) <= TOGETHER and each.has_room(rdtype, thread)
    ]
    return min(found, key=lambda each: thread not in each.threads, default=None)
