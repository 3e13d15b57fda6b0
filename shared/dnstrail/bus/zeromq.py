"""The bus over ZeroMQ: XPUB/SUB for events, ROUTER/REQ for lookups, PUSH/PULL for findings."""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

import zmq
import zmq.utils.garbage  # long messages need it, when this process may not be able to read it any more

from dnstrail.bus.contract import Endpoint
from dnstrail.bus.ipc import socket_path, sole_server
from dnstrail.bus.received_messages import ReceivedMessages
from dnstrail.bus.subscriptions import Subscriptions
from dnstrail.bus.unread_replies import LONG, UnreadReplies
from dnstrail.errors import BusError

_UNREAD = 1000  # messages that wait at their sender for one peer
_WAITING = 3000  # messages that wait at their receiver
_UNREAD_EVENTS = 200  # the same for events, whose batches have 512 KiB at most: 100 MiB
_WAITING_EVENTS = 400  # 200 MiB
_MAX_MESSAGE = 16 << 20  # bytes; the sender of a longer message is disconnected
_MAX_SUBSCRIPTION = 256  # bytes; the same, for a message of a subscriber
_MAX_REQUEST = 2 << 20  # bytes; the same, for a frame of a request
_MAX_ENVELOPE = 4096  # bytes that a client may put before its request
_MAX_FRAMES = 16  # of a request
_WAITING_REQUESTS = 16  # unread requests of one client; beyond them its socket has to wait
_CHANGES_AT_ONCE = 1000  # messages of subscribers that one call handles
_HANDSHAKE = 2.0  # seconds for a new connection to greet
_HANDSHAKE_OF_CLIENT = (
    30.0  # the same at a server. A plain REQ socket sends a request no second time if a stall is longer
)
_HEARTBEAT = 2000  # ms between heartbeats; a peer that is silent for twice as long is disconnected
_LINGER = 3000  # ms for which a closed sender of events or findings still delivers
_LOSSLESS_WAIT = 100  # ms after which a lossless send gives the message back
_RECONNECT = 20, 1000  # ms, doubling from the first to the second

Frames = list[bytes]


class _End:
    """A socket, and the lock of its address if it is bound."""

    def __init__(self, socket: zmq.Socket[bytes], lock: int | None = None) -> None:
        self.socket = socket
        self._lock = lock

    def close(self) -> None:
        self.socket.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

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


class _Publisher(_End):
    def __init__(self, socket: zmq.Socket[bytes], lock: int, *, lossless: bool) -> None:
        super().__init__(socket, lock)
        self.overflowed = False
        self._lossless = lossless
        self._subscriptions = Subscriptions()

    def publish(self, topic: str, body: bytes) -> bool:
        frames = [topic.encode(), body]
        if self._lossless or self.overflowed:
            return self.send_frames(frames)
        if not self.send_frames(frames, zmq.NOBLOCK):
            self.overflowed = True
            self.socket.setsockopt(zmq.XPUB_NODROP, 0)  # from now on a full subscriber misses messages
            self.send_frames(frames)
        return True

    def linger(self, seconds: float) -> None:
        self.socket.setsockopt(zmq.LINGER, -1 if math.isinf(seconds) else int(seconds * 1000))

    def subscribers(self, topic: str) -> int:
        with suppress(zmq.Again):
            for _ in range(_CHANGES_AT_ONCE):
                self._subscriptions.note(self.socket.recv(zmq.NOBLOCK, copy=False))
        return self._subscriptions[topic.encode()]

    @property
    def disconnected(self) -> int:
        return self._subscriptions.disconnected


class _Subscriber(_End):
    def __init__(self, connect: Callable[[Iterable[str]], zmq.Socket[bytes]], topics: Iterable[str]) -> None:
        self._connect = connect
        self._topics = [*topics]
        self.received = ReceivedMessages()
        super().__init__(connect(self._topics))

    def receive(self) -> tuple[str, bytes] | None:
        self.fill()
        message = self.received.take()
        return None if message is None else (message[0].decode(errors="replace"), message[1])

    def fill(self) -> None:
        while self.received.has_room and (frames := self.receive_frames()) is not None:
            self.received.add(frames[0], frames[-1])

    def subscribe(self, topic: str) -> None:
        self.socket.setsockopt(zmq.SUBSCRIBE, topic.encode())
        self._topics.append(topic)

    def unsubscribe(self, topic: str) -> None:
        self.socket.setsockopt(zmq.UNSUBSCRIBE, topic.encode())
        self._topics.remove(topic)

    def reopen(self) -> None:
        self.socket.close()
        self.socket = self._connect(self._topics)


class _ServedRequest:
    def __init__(self, server: _Server, client: zmq.Frame, sent: Frames) -> None:
        self._server = server
        self._first = client  # ROUTER puts the client before every request
        self.client = client.bytes
        self.fault = _fault_of(sent)
        self.body = b"" if self.fault else sent[-1]
        self._envelope = [self.client, *(_start_of(sent) if self.fault else sent[:-1])]

    @property
    def user(self) -> int | None:
        """The user at the other end of a unix socket, as the kernel states it: `host:user:group:process`."""
        with suppress(zmq.ZMQError, ValueError, IndexError):
            return int(str(self._first.get("Peer-Address")).rsplit(":", 3)[1])
        return None

    def reply(self, body: bytes) -> bool:
        return self._server.send_reply(self.client, [*self._envelope, body])


def _fault_of(sent: Frames) -> str:
    """Return why a request cannot be read, or ""."""
    if len(sent) > _MAX_FRAMES:
        return f"{len(sent)} frames; {_MAX_FRAMES} at most"
    if (size := sum(map(len, sent[:-1]))) > _MAX_ENVELOPE:
        return f"{size} bytes before the request; {_MAX_ENVELOPE} at most"
    return ""


def _start_of(sent: Frames) -> Frames:
    """Return what a REQ client puts before its request, so that it receives the refusal; [] for other clients."""
    start = sent[: sent.index(b"") + 1] if b"" in sent[:2] else []
    return start if sum(map(len, start)) <= _MAX_ENVELOPE else []


class _Server(_End):
    def __init__(self, socket: zmq.Socket[bytes], lock: int) -> None:
        super().__init__(socket, lock)
        self._unread = UnreadReplies()

    def receive(self) -> _ServedRequest | None:
        try:
            client = self.socket.recv(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return None
        return _ServedRequest(self, client, self.socket.recv_multipart())

    def send_reply(self, client: bytes, frames: Frames) -> bool:
        size = len(frames[-1])
        if not self._unread.has_room(client, size):
            return False
        with suppress(zmq.ZMQError):  # the client has left
            tracker = self.socket.send_multipart(frames, zmq.NOBLOCK, copy=False, track=True)
            self._unread.add(client, size, tracker)
        return True


class _Requester(_End):
    def request(self, body: bytes, timeout: float) -> bytes | None:
        self.socket.setsockopt(zmq.SNDTIMEO, int(timeout * 1000))
        self.socket.setsockopt(zmq.RCVTIMEO, int(timeout * 1000))
        try:
            self.socket.send(body)
            return self.socket.recv()
        except zmq.Again:
            return None

    def send(self, body: bytes) -> bool:
        return self.send_frames([body], zmq.NOBLOCK)

    def reply(self) -> bytes | None:
        with suppress(zmq.ZMQError):  # nothing has arrived, or nothing was sent
            return self.socket.recv(zmq.NOBLOCK)
        return None


class _Pusher(_End):
    def push(self, body: bytes, wait: float = 0.0) -> bool:
        if wait:
            self.socket.poll(int(wait * 1000), zmq.POLLOUT)
        return self.send_frames([body], zmq.NOBLOCK)


class _Puller(_End):
    def receive(self) -> bytes | None:
        frames = self.receive_frames()
        return None if frames is None else frames[-1]


E = TypeVar("E", bound=_End)


class ZmqBus:
    """One ZeroMQ context and the ends opened from it. It belongs to one thread.

    Every socket has a high-water mark, a size limit and a linger time, so that no peer makes a worker grow or hang. A
    message whose frames never end is held until its end: the memory limit of the worker ends the worker.
    """

    def __init__(self) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._ends: dict[Endpoint, _End] = {}

    def publisher(self, address: str, *, lossless: bool) -> _Publisher:
        socket = self._socket(zmq.XPUB, _LINGER)
        socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        socket.setsockopt(zmq.XPUB_NODROP, 1)
        socket.setsockopt(zmq.RCVHWM, 1)  # libzmq reads all waiting subscriptions in one call, and a flood never ends
        socket.setsockopt(zmq.SNDHWM, _UNREAD_EVENTS)
        socket.setsockopt(zmq.MAXMSGSIZE, _MAX_SUBSCRIPTION)
        if lossless:
            socket.setsockopt(zmq.SNDTIMEO, _LOSSLESS_WAIT)
            socket.setsockopt(zmq.LINGER, -1)  # deliver all of it, unless the bus is closed with `now`
        return self._keep(_Publisher(socket, self._bind(socket, address), lossless=lossless))

    def subscriber(self, addresses: Iterable[str], topics: Iterable[str]) -> _Subscriber:
        publishers = [*addresses]

        def connect(topics: Iterable[str]) -> zmq.Socket[bytes]:
            socket = self._socket(zmq.SUB)
            socket.setsockopt(zmq.RCVHWM, _WAITING_EVENTS)
            for topic in topics:
                socket.setsockopt(zmq.SUBSCRIBE, topic.encode())
            for address in publishers:
                self._connect(socket, address)
            return socket

        return self._keep(_Subscriber(connect, topics))

    def server(self, address: str) -> _Server:
        socket = self._socket(zmq.ROUTER)
        socket.setsockopt(zmq.RCVHWM, _WAITING_REQUESTS)
        socket.setsockopt(zmq.HANDSHAKE_IVL, int(_HANDSHAKE_OF_CLIENT * 1000))
        socket.setsockopt(zmq.MAXMSGSIZE, _MAX_REQUEST)
        socket.copy_threshold = LONG  # the bus reports when it holds a longer reply no more
        return self._keep(_Server(socket, self._bind(socket, address)))

    def requester(self, address: str) -> _Requester:
        socket = self._socket(zmq.REQ)
        socket.setsockopt(zmq.REQ_RELAXED, 1)  # repeat a request on the same socket after a time-out,
        socket.setsockopt(zmq.REQ_CORRELATE, 1)  # and drop the late reply to the first one
        self._connect(socket, address)
        return self._keep(_Requester(socket))

    def pusher(self, address: str) -> _Pusher:
        socket = self._socket(zmq.PUSH, _LINGER)
        self._connect(socket, address)
        return self._keep(_Pusher(socket))

    def puller(self, address: str) -> _Puller:
        socket = self._socket(zmq.PULL)
        return self._keep(_Puller(socket, self._bind(socket, address)))

    def wait(self, *ends: Endpoint, timeout: float) -> None:
        poller = zmq.Poller()
        for end in map(self._ends.__getitem__, ends):
            if isinstance(end, _Subscriber) and end.received:
                return
            poller.register(end.socket, zmq.POLLIN)
        poller.poll(int(timeout * 1000))

    def close(self, *, now: bool = False) -> None:
        if now:
            self._context.destroy(linger=0)
        for end in self._ends:
            end.close()
        self._context.destroy()  # and the sockets whose bind failed

    def _keep(self, end: E) -> E:
        self._ends[end] = end
        return end

    def _socket(self, kind: int, linger: int = 0) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, linger)
        socket.setsockopt(zmq.SNDHWM, _UNREAD)
        socket.setsockopt(zmq.RCVHWM, _WAITING)
        socket.setsockopt(zmq.MAXMSGSIZE, _MAX_MESSAGE)
        socket.setsockopt(zmq.HANDSHAKE_IVL, int(_HANDSHAKE * 1000))
        if kind in (zmq.REQ, zmq.ROUTER):
            # Never on PUB and SUB: a full subscriber reads no PONG and is disconnected, and libzmq 4.3.5 then aborts
            # ("_input_stopped"). Turns are the heartbeat there.
            socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT)
            socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 2 * _HEARTBEAT)
        socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT[0])
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT[1])
        return socket

    def _bind(self, socket: zmq.Socket[bytes], address: str) -> int:
        _raise_descriptor_limit()
        try:
            with sole_server(address) as lock:
                socket.bind(address)
        except zmq.ZMQError as error:
            socket.close()
            raise BusError(address, f"{error.strerror}: choose another folder with --run-dir") from error
        except BusError:
            socket.close()
            raise
        return lock

    def _connect(self, socket: zmq.Socket[bytes], address: str) -> None:
        try:
            socket_path(address)
        except BusError:
            socket.close()
            raise
        socket.connect(address)


def _raise_descriptor_limit() -> None:
    """Allow as many connections as possible: libzmq 4.3.5 aborts if no descriptor is left for one of them."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
