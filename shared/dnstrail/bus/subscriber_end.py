"""The receiving end of events over ZeroMQ: a socket for the publishers of this host, and one for each other host."""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from typing import NamedTuple

import zmq

from dnstrail.bus.remote_host import RemoteHost

MOST_RECEIVED = 128 << 20  # bytes; a flood of 50,000 events a second has 10 MiB a second
OVERHEAD = 512  # bytes that a message costs besides its body
_TAKEN_AT_ONCE = 16  # messages from memory between two looks at the sockets: a look costs as much as a message
_READ_AT_ONCE = 2000  # messages of one socket in one look: more than wait there, unless their sender is faster
_PERMITTED = 1 << 20  # bytes of messages after which their publisher is permitted to send more


class ReceivedMessages:
    """The messages that were taken from a socket and not handled yet, in their order; `size` counts their bytes."""

    def __init__(self) -> None:
        self._messages: deque[tuple[bytes, bytes]] = deque()
        self.size = 0

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, topic: bytes, body: bytes) -> None:
        """Add a message."""
        self._messages.append((topic, body))
        self.size += len(body) + OVERHEAD

    def take(self) -> tuple[bytes, bytes] | None:
        """Take out the oldest message; None if there is none."""
        if not self._messages:
            return None
        topic, body = self._messages.popleft()
        self.size -= len(body) + OVERHEAD
        return topic, body


Connect = Callable[[Iterable[str]], zmq.Socket[bytes]]  # opens a socket that subscribes to these topics


class Publishers(NamedTuple):
    """The publishers of this host (None), or the publisher at an address of another host.

    `permit` is called as messages arrive: without it the relay takes what this publisher sends for a message that never
    ends.
    """

    remote: RemoteHost | None
    connect: Connect
    permit: Callable[[], None] = lambda: None


class _Source:
    """The publishers behind one socket.

    ZeroMQ does not state which of its publishers sent a message, so each other host has a socket of its own.
    """

    def __init__(self, number: int, publishers: Publishers, topics: Iterable[str]) -> None:
        self.number = number
        self.remote, self._connect, self._permit = publishers
        self.topics = [*topics]
        self.received = ReceivedMessages()
        self.served = 0  # bytes that were received, or that others received while it had none
        self._arrived = 0  # bytes since `_permit`
        self.open()

    def open(self) -> None:
        self.socket = self._connect(self.topics)
        self.descriptor = int(self.socket.getsockopt(zmq.FD))

    def receive_frames(self) -> list[bytes] | None:
        try:
            frames = self.socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None
        self._arrived += sum(map(len, frames))
        if self._arrived > _PERMITTED:
            self._arrived = 0
            self._permit()
        return frames


class SubscriberEnd:
    """The receiving end of events. The sockets select topics by prefix; messages of longer ones are dropped here.

    Sources with messages have equal parts of the bytes that are received. A source that floods holds half of the memory
    at most, and leaves a part of the other half to each other source. A source without messages costs nothing:
    `descriptor` becomes readable when one of the sockets does.

    The descriptor of a ZeroMQ socket reports a change only. A source is therefore `_ready` until a read finds nothing.
    """

    def __init__(self, publishers: Iterable[Publishers], topics: Iterable[str]) -> None:
        chosen = [*topics]
        self._selected = {topic.encode() for topic in chosen}
        self._poll = select.epoll()
        self._sources = [_Source(number, each, chosen) for number, each in enumerate(publishers)]
        self._by_descriptor: dict[int, _Source] = {}
        self._ready: dict[_Source, None] = {}
        self._waiting: list[tuple[int, int, _Source]] = []  # a heap: the sources with messages, the least served first
        self._served = 0  # by the source that was served last
        self.size = 0  # of these messages, in bytes
        self._taken = 0  # messages since the last look at the sockets
        self.publisher: RemoteHost | None = None
        for source in self._sources:
            self._watch(source)

    @property
    def descriptor(self) -> int:
        """The descriptor to wait for."""
        return self._poll.fileno()

    @property
    def held(self) -> int:
        """The number of messages in memory."""
        return sum(len(source.received) for *_, source in self._waiting)

    @property
    def has_message(self) -> bool:
        """Whether a message can be received now."""
        if not self._waiting:
            self.fill()
        return bool(self._waiting)

    def receive(self) -> tuple[str, bytes] | None:
        if not self._waiting or self._taken >= _TAKEN_AT_ONCE:
            self.fill()
        self._taken += 1
        if not self._waiting:
            return None
        self._served, _, source = heappop(self._waiting)
        before = source.received.size
        message = source.received.take()
        taken = before - source.received.size
        self.size -= taken
        source.served = self._served + taken
        if source.received:
            self._wait_for(source)
        self.publisher = source.remote
        return None if message is None else (message[0].decode(errors="replace"), message[1])

    def fill(self) -> None:
        self._taken = 0
        for descriptor, _ in self._poll.poll(0):
            self._ready[self._by_descriptor[descriptor]] = None
        for source in [*self._ready]:
            if self._read(source):
                del self._ready[source]

    def subscribe(self, topic: str, start: str = "") -> None:
        self._selected.add(topic.encode())
        for source in self._sources_of(start):
            source.socket.setsockopt(zmq.SUBSCRIBE, topic.encode())
            source.topics.append(topic)
            self._ready[source] = None

    def unsubscribe(self, topic: str, start: str = "") -> None:
        for source in self._sources_of(start):
            if topic in source.topics:
                source.socket.setsockopt(zmq.UNSUBSCRIBE, topic.encode())
                source.topics.remove(topic)
                self._ready[source] = None
        self._selected = {topic.encode() for source in self._sources for topic in source.topics}

    def reopen(self, start: str) -> None:
        for source in self._sources_of(start):
            self._unwatch(source)
            source.socket.close()
            source.open()
            self._watch(source)

    def close(self) -> None:
        self._poll.close()
        for source in self._sources:
            source.socket.close()

    def _sources_of(self, start: str) -> list[_Source]:
        """Return the source that publishes a start; all sources if `start` is empty."""
        if not start:
            return self._sources
        owners = [source for source in self._sources if source.remote is not None and source.remote.owns(start)]
        return owners or [source for source in self._sources if source.remote is None]

    def _read(self, source: _Source) -> bool:
        """Take the messages of a source into memory, as many as have room; return whether no more waits."""
        for _ in range(_READ_AT_ONCE):
            if not self._has_room(source):
                return False
            frames = source.receive_frames()
            if frames is None:
                return True
            if frames[0] in self._selected:
                self._add(source, frames)
        return False

    def _add(self, source: _Source, frames: list[bytes]) -> None:
        before, was_waiting = source.received.size, bool(source.received)
        source.received.add(frames[0], frames[-1])
        self.size += source.received.size - before
        if not was_waiting:
            source.served = max(source.served, self._served)  # nobody saves up while others are served
            self._wait_for(source)

    def _wait_for(self, source: _Source) -> None:
        heappush(self._waiting, (source.served, source.number, source))

    def _has_room(self, source: _Source) -> bool:
        if len(self._sources) == 1:
            return self.size < MOST_RECEIVED
        half = MOST_RECEIVED // 2
        return self.size < half or source.received.size < half // len(self._sources)

    def _watch(self, source: _Source) -> None:
        """Wait for a socket, too. It may have received something already."""
        self._by_descriptor[source.descriptor] = source
        self._poll.register(source.descriptor, select.EPOLLIN)
        self._ready[source] = None

    def _unwatch(self, source: _Source) -> None:
        self._poll.unregister(source.descriptor)
        del self._by_descriptor[source.descriptor]
