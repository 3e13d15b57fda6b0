"""The ends of the bus over ZeroMQ: each has one socket, and bounds what it has sent and holds."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

import zmq

from dnstrail.bus.remote_host import RemoteHost
from dnstrail.bus.served_request import Frames, RoutedRequest
from dnstrail.bus.subscriptions import Subscriptions

LONG = 8192  # bytes; the high-water mark bounds shorter replies, which are copied: that costs less than a tracker
MOST_UNREAD = 64 << 20  #: bytes of replies above 8 KiB that all clients have not read -> `overloaded`
MOST_UNREAD_OF_CLIENT = 16 << 20  #: bytes of replies above 8 KiB that one client has not read -> `overloaded`
#: seconds for which a sender keeps findings, for a receiver that is started anew -> those that a killed receiver has
#: not written by then are lost
KEPT = 40.0  # a worker that stands still is ended after 30
#: findings that a sender keeps for a receiver that is started anew -> the oldest is dropped
MOST_SENT = 4000  # as many as wait between a pusher and its receiver
MOST_BYTES = 8 << 20  #: bytes of the findings that a sender keeps -> the oldest is dropped
_REPEATED_AT_ONCE = 100  # messages to another receiver: beyond them new ones come first
RENEWED = 5.0  # seconds that a socket of requests is kept at least
CHANGES_AT_ONCE = 1000  # messages of subscribers that one call handles
_CHANGES_PAUSE = 10  # ms without a message of a subscriber, after which a closing publisher has read all,
_CHANGES_BOUND = 0.2  # and the seconds for which it reads them at most
# As int: zmq.EVENTS and its like are enumerations, whose operators cost more than a frame.
_EVENTS, _READABLE, _NOW, _MORE = int(zmq.EVENTS), int(zmq.POLLIN), int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
_SEND = zmq.backend.Socket.send  # a reply of four frames by `send_multipart` takes five times as long


class UnreadReplies:
    """The long replies that the bus still holds, by client.

    A client that has read everything may receive one reply of any size.
    """

    def __init__(self) -> None:
        self._of_client: dict[bytes, deque[tuple[int, zmq.MessageTracker]]] = {}

    def has_room(self, client: bytes, size: int) -> bool:
        """Return whether a long reply keeps within the bounds."""
        self._forget_read()
        sizes = {of: sum(waiting for waiting, _ in replies) for of, replies in self._of_client.items()}
        own, total = sizes.get(client, 0), sum(sizes.values())
        return (not own or own + size <= MOST_UNREAD_OF_CLIENT) and (not total or total + size <= MOST_UNREAD)

    def add(self, client: bytes, size: int, tracker: zmq.MessageTracker | None) -> None:
        """Note a long reply that was sent; `tracker` reports when the bus holds it no more."""
        if tracker:
            self._of_client.setdefault(client, deque()).append((size, tracker))

    def _forget_read(self) -> None:
        for client, replies in [*self._of_client.items()]:
            while replies and replies[0][1].done:
                replies.popleft()
            if not replies:
                del self._of_client[client]


class SentMessages:
    """The messages of the last KEPT seconds, bounded in number and in bytes."""

    def __init__(self) -> None:
        self._messages: deque[tuple[float, bytes]] = deque()
        self._bytes = 0

    def add(self, body: bytes, now: float) -> None:
        """Add a message that was sent now."""
        self._messages.append((now, body))
        self._bytes += len(body)
        self._expire(now)
        while len(self._messages) > MOST_SENT or self._bytes > MOST_BYTES:
            self._drop()

    def since(self, now: float) -> Iterator[bytes]:
        """Yield the messages that are not too old, in their order."""
        self._expire(now)
        return iter([body for _, body in self._messages])

    def _expire(self, now: float) -> None:
        while self._messages and self._messages[0][0] <= now - KEPT:
            self._drop()

    def _drop(self) -> None:
        self._bytes -= len(self._messages.popleft()[1])


class Bound:
    """The addresses at which a socket is bound: how to release them, and the connections that were refused there.

    `relay` is the process through which other users and hosts connect; 0 without it.
    """

    def __init__(self, relay: Callable[[], int] = lambda: 0) -> None:
        self.releases: list[Callable[[], None]] = []
        self.refusals: list[Callable[[], int]] = []
        self._relay = relay

    @property
    def relay(self) -> int:
        """The process id of the relay."""
        return self._relay()

    def refused(self) -> int:
        """Return the number of connections of other users and hosts that were refused."""
        return sum(refused() for refused in self.refusals)

    def release(self) -> None:
        """Release the addresses."""
        while self.releases:
            self.releases.pop()()


NOT_BOUND = Bound()


class End:
    """A socket, and the addresses at which it is bound."""

    def __init__(self, socket: zmq.Socket[bytes], bound: Bound = NOT_BOUND) -> None:
        self.socket = socket
        self._bound = bound

    @property
    def refused(self) -> int:
        """The number of connections of other users and hosts that were refused."""
        return self._bound.refused()

    def close(self) -> None:
        self.socket.close()
        self._bound.release()

    def receive_frames(self) -> Frames | None:
        try:
            return self.socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None

    def send_frames(self, frames: Frames, flags: int = 0) -> bool:
        try:
            self.socket.send_multipart(frames, flags)
        except zmq.Again:
            return False
        return True


class PublisherEnd(End):
    """The sending end of events. It drops messages for a full subscriber, unless it is lossless."""

    def __init__(self, socket: zmq.Socket[bytes], bound: Bound, *, lossless: bool) -> None:
        super().__init__(socket, bound)
        self.overflowed = False
        self._lossless = lossless
        self._subscriptions = Subscriptions()

    def publish(self, topic: str, body: bytes) -> bool:
        self.note_changes()
        frames = [topic.encode(), body]
        if self._lossless or self.overflowed:
            return self.send_frames(frames)
        if not self.send_frames(frames, zmq.NOBLOCK):
            self.overflowed = True
            self.socket.setsockopt(zmq.XPUB_NODROP, 0)  # from now on a full subscriber misses messages
            self.send_frames(frames)
        return True

    def linger(self, seconds: float) -> None:
        self.socket.setsockopt(zmq.LINGER, int(seconds * 1000))

    def subscribers(self, topic: str) -> int:
        self.note_changes()
        return self._subscriptions[topic.encode()]

    def note_changes(self) -> None:
        """Note what subscribers have sent: ZeroMQ ends the connection of one that has left only when all is read."""
        if self.socket.closed or not int(self.socket.getsockopt(_EVENTS)) & _READABLE:
            return
        try:
            for _ in range(CHANGES_AT_ONCE):
                self._subscriptions.count(self.socket.recv(zmq.NOBLOCK, copy=False))
        except zmq.Again:
            self._subscriptions.settle()

    @property
    def disconnected(self) -> int:
        return self._subscriptions.disconnected

    def close(self) -> None:
        # libzmq 4.3.5 waits for a subscriber that has left until what that one has sent is read.
        deadline, pause = time.monotonic() + _CHANGES_BOUND, 0
        while not self.socket.closed and self.socket.poll(pause) and time.monotonic() < deadline:
            self.socket.recv(zmq.NOBLOCK)
            pause = _CHANGES_PAUSE  # more of the same subscriber may be on its way
        super().close()


class ServerEnd(End):
    """The answering end of lookups."""

    def __init__(self, socket: zmq.Socket[bytes], bound: Bound) -> None:
        super().__init__(socket, bound)
        self._unread = UnreadReplies()

    def receive(self) -> RoutedRequest | None:
        if not int(self.socket.getsockopt(_EVENTS)) & _READABLE:  # costs less than an exception
            return None
        frame = client = self.socket.recv(_NOW, copy=False)
        sent: Frames = []
        while frame.more:  # costs less than the option of the socket, which `recv_multipart` reads for each frame
            frame = self.socket.recv(copy=False)
            sent.append(frame.bytes)
        return RoutedRequest(self._send, client, sent, self._bound.relay)

    def _send(self, client: bytes, frames: Frames) -> bool:
        size = len(frames[-1])
        if size <= LONG:
            with suppress(zmq.ZMQError):  # the client has left
                for frame in frames[:-1]:
                    _SEND(self.socket, frame, _MORE)
                _SEND(self.socket, frames[-1], _NOW)
            return True
        if not self._unread.has_room(client, size):
            return False
        with suppress(zmq.ZMQError):
            tracker = self.socket.send_multipart(frames, zmq.NOBLOCK, copy=False, track=True)
            self._unread.add(client, size, tracker)
        return True


class RequesterEnd(End):
    """The asking end of lookups.

    libzmq connects no second time to a server that broke its protocol, as by a reply that is too long. After a request
    without a reply the socket is made anew, once it is RENEWED seconds old: a handshake has ended by then.
    """

    def __init__(self, connect: Callable[[], zmq.Socket[bytes]], remote: RemoteHost | None = None) -> None:
        super().__init__(connect())
        self.remote = remote
        self._connect = connect
        self._made = time.monotonic()
        self._timeout = -1.0  # of the socket, in seconds
        self._unanswered = False  # a request of `send`

    def request(self, body: bytes, timeout: float) -> bytes | None:
        if timeout != self._timeout:
            self._timeout = timeout
            self.socket.setsockopt(zmq.SNDTIMEO, int(timeout * 1000))
            self.socket.setsockopt(zmq.RCVTIMEO, int(timeout * 1000))
        try:
            self.socket.send(body)
            return self.socket.recv()
        except zmq.Again:
            self._renew()
            return None

    def send(self, body: bytes) -> bool:
        if self._unanswered:
            self._renew()
        self._unanswered = True
        return self.send_frames([body], zmq.NOBLOCK)

    def reply(self) -> bytes | None:
        with suppress(zmq.ZMQError):  # nothing has arrived, or nothing was sent
            reply = self.socket.recv(zmq.NOBLOCK)
            self._unanswered = False
            return reply
        return None

    def _renew(self) -> None:
        """Make the socket anew if it is old enough."""
        now = time.monotonic()
        if now < self._made + RENEWED or self.socket.closed:
            return
        renewed = self._connect()
        self.socket.close()
        self.socket, self._made, self._timeout = renewed, now, -1.0


class PusherEnd(End):
    """The sending end of findings. If its receiver is lost, the next one receives the last messages again."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        super().__init__(socket)
        self._events = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self._connected = False
        self._waiting = 0
        self._sent = SentMessages()
        self._again: deque[bytes] = deque()

    def push(self, body: bytes, wait: float = 0.0) -> bool:
        if wait:
            self.socket.poll(int(wait * 1000), zmq.POLLOUT)
        waits = not self.connected
        pushed = self.send_frames([body], zmq.NOBLOCK)
        if pushed:
            self._sent.add(body, time.monotonic())
            self._waiting += waits
        return pushed

    @property
    def connected(self) -> bool:
        with suppress(zmq.Again):
            while True:
                self._note(self._events.recv_multipart(zmq.NOBLOCK)[0])
        return self._connected

    @property
    def waiting(self) -> int:
        return 0 if self.connected else self._waiting

    def repeat(self) -> None:
        """Send some of the messages again that a lost receiver may not have handled, once another one is there.

        New messages need the room until then.
        """
        if self.socket.closed:
            return
        for _ in range(min(len(self._again), _REPEATED_AT_ONCE) if self.connected else 0):
            if not self.send_frames([self._again[0]], zmq.NOBLOCK):
                break
            self._again.popleft()

    def close(self) -> None:
        if not self.socket.closed:
            self.socket.disable_monitor()
        self._events.close(linger=0)
        super().close()

    def _note(self, event: bytes) -> None:
        """Note an event of zmq_socket_monitor(3): its number (16 bits) and its value."""
        self._connected = int.from_bytes(event[:2], sys.byteorder) == zmq.EVENT_HANDSHAKE_SUCCEEDED
        self._waiting = 0
        if not self._connected:
            self._again = deque(self._sent.since(time.monotonic()))


class PullerEnd(End):
    """The receiving end of findings."""

    def receive(self) -> bytes | None:
        frames = self.receive_frames()
        return None if frames is None else frames[-1]
