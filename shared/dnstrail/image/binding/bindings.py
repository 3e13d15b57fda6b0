"""The connections that are open, each bound to the name that it means (docs/inside/image.md)."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple, TypeVar

import msgspec

from dnstrail.captured import Process
from dnstrail.image.binding.processes import Identity, identity_of
from dnstrail.image.binding.waiting import ConnectionAttempt, WaitingQuestion
from dnstrail.image.bounds import Counts

SocketKey = tuple[object, ...]  # host and cookie; without a cookie the ends of the connection
_WITH_COOKIE = 2  # the length of such a key
_Key = TypeVar("_Key")
BY_THREAD, BY_PROCESS, BY_PARENT, BY_DAEMON, BY_LAST, UNKNOWN = "thread", "process", "parent", "daemon", "last", ""
OPENED, RESULT, NAMED, ENDED = "opened", "result", "named", "end"  # the stages of a connection
CLOSED, EXITED, REUSED, EVICTED, GONE = "closed", "process ended", "socket reused", "evicted", "probe gone"
SAID = ("sni", "host")  # the connection itself sent the name
SEARCHED = 4096  # connections to one address among which a lookup finds the one that it describes
_OVERTAKEN = 64  # connections to one address that were opened later than one that arrives after them


class Meaning(NamedTuple):
    """The name that a connection means, how it was found, and the time of the connection."""

    name: str
    by: str
    stamp: int


class Stage(NamedTuple):
    """A stage of a connection: its time, the error of a result, and why a connection ended, with its bytes.

    Bytes are -1 if they are unknown.
    """

    name: str
    time: int
    error: str = ""
    why: str = ""
    sent: int = -1
    received: int = -1


class ConnectionOpening(msgspec.Struct, frozen=True, gc=False):
    """A connection attempt as its event states it; unknown values are 0, "" or None."""

    socket: SocketKey
    address: str
    port: int
    host: str = ""
    process: Process | None = None
    client: str = ""
    client_port: int = 0
    namespace: int = 0
    transport: str = "tcp"

    @property
    def cookie(self) -> int:
        """The cookie of the socket, 0 if it is unknown."""
        cookie = self.socket[1] if len(self.socket) == _WITH_COOKIE else 0
        return cookie if isinstance(cookie, int) else 0

    @property
    def identity(self) -> Identity | None:
        """The identity of the connecting process."""
        return identity_of(self.host, self.process)

    @property
    def thread(self) -> int:
        """The connecting thread, 0 if unknown."""
        return self.process.thread_id if self.process else 0


class Binding:
    """A connection and the name that it means, "" if none is known.

    `by` states how the name was found. `stamp` is the time of the connection, and `ended` the time of its close or of
    the end of its process. `connected` states that its success was seen, and `concluded` the time of the result (0 if
    there is none). `question` is the question that it spent. `said` is the name that it sent itself, the evidence of
    this, and its time. `number` is its place among all connections that were added.
    """

    __slots__ = (
        "attempt",
        "by",
        "client",
        "client_port",
        "concluded",
        "connected",
        "ended",
        "name",
        "number",
        "opening",
        "question",
        "said",
        "stamp",
    )

    def __init__(self, stamp: int, opening: ConnectionOpening, name: str, by: str) -> None:
        self.stamp = stamp
        self.opening = opening
        self.name = name
        self.by = by
        self.client = opening.client
        self.client_port = opening.client_port
        self.connected = False
        self.concluded = 0
        self.number = 0
        self.ended: int | None = None
        self.question: WaitingQuestion | None = None
        self.attempt: ConnectionAttempt | None = None
        self.said: tuple[str, str, int] | None = None

    def meant(self, at: int) -> Meaning:
        """Return the name as of a time: the one that the connection had sent by then is the truth about it."""
        if self.said is not None and self.said[2] <= at:
            return Meaning(*self.said[:2], self.stamp)
        return Meaning(self.name, self.by, self.stamp)

    def is_open(self, at: int) -> bool:
        """Return whether the connection was open at a time."""
        return self.stamp <= at and (self.ended is None or at < self.ended)

    def is_connected(self, at: int) -> bool:
        """Return whether its success was seen by then; a connection over UDP has sent a datagram."""
        return self.opening.transport == "udp" or (self.connected and self.concluded <= at)


class Bindings:
    """The open connections, and for `history` ns the ended ones, which lookups of a past time still find.

    Beyond `most` connections the one that ended first is evicted, else the one opened first; counted as
    `evicted_bindings`. `added` is the number of the last connection that was added. `forgotten` is the latest time at
    which a connection was open that is held no longer; None if there is none. `on_stage` receives each stage of a
    connection, and the close of one whose process ended before.
    """

    def __init__(self, most: int, history: int, counters: Counts) -> None:
        self.counters = counters
        self.on_stage: Callable[[Binding, Stage], None] | None = None
        self._most = most
        self._history = history
        self._by_socket: OrderedDict[SocketKey, Binding] = OrderedDict()
        self._by_address: dict[str, dict[Binding, None]] = {}
        self._by_process: dict[Identity, dict[Binding, None]] = {}
        self._ended: deque[Binding] = deque()
        self._held = 0
        self.added = 0
        self.forgotten: int | None = None

    def __len__(self) -> int:
        return self._held

    def open_after(self, number: int) -> Iterator[Binding]:
        """Yield the connections that are open and have a greater number, the first added first."""
        return (one for one in self._by_socket.values() if one.number > number and one.ended is None)

    def open_at(self, at: int) -> list[Binding]:
        """Return the connections that are held and were open at a time, in no order."""
        return [one for opened in self._by_address.values() for one in opened if one.is_open(at)]

    def remembers(self, at: int) -> bool:
        """Return whether every connection that was open at a time is still held."""
        return self.forgotten is None or at >= self.forgotten

    def open(self, binding: Binding) -> None:
        """Add a connection. A socket that connects again has ended its connection before."""
        self.forget(binding.stamp)
        self.added += 1
        binding.number = self.added
        before = self._by_socket.pop(binding.opening.socket, None)
        if before is not None:
            self._end(before, binding.stamp, REUSED)
        self._by_socket[binding.opening.socket] = binding
        _insert(self._by_address.setdefault(binding.opening.address, {}), binding)
        if (owner := binding.opening.identity) is not None:
            self._by_process.setdefault(owner, {})[binding] = None
        self._held += 1
        while self._held > self._most:
            self.counters["evicted_bindings"] += 1
            evicted = self._ended.popleft() if self._ended else next(iter(self._by_socket.values()))
            if evicted.ended is None:
                self._note(evicted, ENDED, binding.stamp, why=EVICTED)
            self._remove(evicted, binding.stamp)
        self._note(binding, OPENED, binding.stamp)

    def of_socket(self, socket: SocketKey) -> Binding | None:
        """Return the last connection of a socket, ended or not."""
        return self._by_socket.get(socket)

    def to(self, address: str) -> Iterable[Binding]:
        """Return the connections to an address, the last opened first; SEARCHED at most."""
        return islice(reversed(self._by_address.get(address, {})), SEARCHED)

    def searched(self, address: str) -> int:
        """Return how many connections `to` returns."""
        return min(len(self._by_address.get(address, {})), SEARCHED)

    def note_said(self, socket: SocketKey, stamp: int, name: str, evidence: str) -> None:
        """Note the name that the connection of a socket sent; its first one counts."""
        binding = self._by_socket.get(socket)
        if binding is not None and binding.said is None and evidence in SAID:
            binding.said = name, evidence, stamp
            self._note(binding, NAMED, stamp)

    def close(self, socket: SocketKey, stamp: int, sent: int = -1, received: int = -1) -> None:
        """End the connection of a socket, with the bytes that it sent and received."""
        binding = self._by_socket.get(socket)
        if binding is not None:
            self._end(binding, stamp, CLOSED, sent, received)

    def conclude(self, binding: Binding, stamp: int, error: str) -> None:
        """Note the result of an attempt. One that failed is no open connection."""
        binding.concluded = stamp
        self._note(binding, RESULT, stamp, error)
        if not binding.connected:
            self._end(binding, stamp)

    def end_process(self, owner: Identity, stamp: int) -> None:
        """End all connections of a process."""
        for binding in self._by_process.get(owner, {}):
            self._end(binding, stamp, EXITED)

    def forget(self, now: int) -> None:
        """Remove the connections whose history is over."""
        while self._ended and (self._ended[0].ended or 0) + self._history <= now:
            self._remove(self._ended.popleft(), now)

    def _note(
        self,
        binding: Binding,
        name: str,
        stamp: int,
        error: str = "",
        why: str = "",
        sent: int = -1,
        received: int = -1,
    ) -> None:
        if self.on_stage is not None:
            self.on_stage(binding, Stage(name, stamp, error, why, sent, received))

    def _end(self, binding: Binding, stamp: int, why: str = "", sent: int = -1, received: int = -1) -> None:
        """End a connection that is open; an attempt that failed ends without a reason."""
        if why:
            self._note(binding, ENDED, stamp, "", why, sent, received)
        if binding.ended is None:
            binding.ended = stamp
            binding.question = binding.attempt = None
            self._ended.append(binding)

    def _remove(self, binding: Binding, now: int) -> None:
        end = now if binding.ended is None else binding.ended
        self.forgotten = end if self.forgotten is None else max(self.forgotten, end)
        opening = binding.opening
        self._held -= 1
        if self._by_socket.get(opening.socket) is binding:
            del self._by_socket[opening.socket]
        _discard(self._by_address, opening.address, binding)
        if (owner := opening.identity) is not None:
            _discard(self._by_process, owner, binding)


def _insert(opened: dict[Binding, None], binding: Binding) -> None:
    """Add a connection to those of an address, in the order of their stamps: processors deliver out of order."""
    later = []
    for one in islice(reversed(opened), _OVERTAKEN):
        if one.stamp <= binding.stamp:
            break
        later.append(one)
    opened[binding] = None
    for one in reversed(later):
        del opened[one]
        opened[one] = None


def _discard(index: dict[_Key, dict[Binding, None]], key: _Key, binding: Binding) -> None:
    del index[key][binding]
    if not index[key]:
        del index[key]
