"""The bus over ZeroMQ: XPUB/SUB for events, ROUTER/REQ for lookups, PUSH/PULL for findings."""

from __future__ import annotations

import resource
import time
from collections.abc import Collection, Iterable
from typing import TypeVar

import zmq
import zmq.utils.garbage  # long messages need it, when this process may not be able to read it any more

from dnstrail.bus.contract import Endpoint
from dnstrail.bus.curve import Curve
from dnstrail.bus.ends import (
    Bound,
    End,
    PublisherEnd,
    PullerEnd,
    PusherEnd,
    RequesterEnd,
    ServerEnd,
    SubscriberEnd,
)
from dnstrail.bus.ipc import socket_path, sole_server
from dnstrail.bus.keys import Keys
from dnstrail.bus.tcp import is_tcp
from dnstrail.bus.unread_replies import LONG
from dnstrail.errors import BusError

_MOST_SOCKETS = 16384  # a worker has some for each probe
_FEW = 32  # connections for which any limit on descriptors is enough
_UNREAD = 1000  # messages that wait at their sender for one peer
_UNREAD_REPLIES = 500  # the same for replies; short ones are bounded by this alone: 4 MiB
_WAITING = 3000  # messages that wait at their receiver
_UNREAD_EVENTS = 800  # the same for events, whose batches have 128 KiB at most: 100 MiB
_WAITING_EVENTS = 1600  # 200 MiB
_MAX_MESSAGE = 16 << 20  # bytes; the sender of a longer message is disconnected
_MAX_SUBSCRIPTION = 256  # bytes; the same, for a message of a subscriber
_MAX_REQUEST = 2 << 20  # bytes; the same, for a frame of a request
_WAITING_REQUESTS = 16  # unread requests of one client; beyond them its socket has to wait
_HANDSHAKE = 2.0  # seconds for a new connection to greet
_HANDSHAKE_OF_CLIENT = (
    30.0  # the same at a server. A plain REQ socket sends a request no second time if a stall is longer
)
_HEARTBEAT = 2000  # ms between heartbeats; a peer that is silent for twice as long is disconnected
_LINGER = 3000  # ms for which a closed sender of events or findings still delivers
LINGER_LOSSLESS = 60_000  # ms, the same for a lossless one; libzmq may keep a subscriber that has left until then
_LOSSLESS_WAIT = 100  # ms after which a lossless send gives the message back
_RECONNECT = 20  # ms, and up to as much again: the events of a file begin 100 ms after the last subscription
_RECONNECT_TO_HOST = 1000  # ms up to which this doubles for another host

E = TypeVar("E", bound=End)


class ZmqBus:
    """One ZeroMQ context and the ends opened from it. It belongs to one thread.

    Every socket has a high-water mark, a size limit and a linger time, so that no peer makes a worker grow or hang. A
    message whose frames never end is held until its end: the memory limit of the worker ends the worker.

    `keys` are the keys for addresses of other hosts.
    """

    def __init__(self, keys: Keys | None = None) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, _MOST_SOCKETS)
        self._curve = Curve(self._context, keys)
        self._ends: dict[Endpoint, End] = {}
        self._pushers: list[PusherEnd] = []
        self._connections = 0

    def publisher(self, *addresses: str, lossless: bool) -> PublisherEnd:
        socket = self._socket(zmq.XPUB, _LINGER)
        socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        socket.setsockopt(zmq.XPUB_NODROP, 1)
        socket.setsockopt(zmq.RCVHWM, 1)  # libzmq reads all waiting subscriptions in one call, and a flood never ends
        socket.setsockopt(zmq.SNDHWM, _UNREAD_EVENTS)
        socket.setsockopt(zmq.MAXMSGSIZE, _MAX_SUBSCRIPTION)
        if lossless:
            socket.setsockopt(zmq.SNDTIMEO, _LOSSLESS_WAIT)
            socket.setsockopt(zmq.LINGER, LINGER_LOSSLESS)
        return self._keep(PublisherEnd(socket, self._bind(socket, *addresses), lossless=lossless))

    def subscriber(self, addresses: Iterable[str], topics: Iterable[str]) -> SubscriberEnd:
        publishers = [*addresses]

        def connect(topics: Iterable[str]) -> zmq.Socket[bytes]:
            socket = self._socket(zmq.SUB)
            socket.setsockopt(zmq.RCVHWM, _WAITING_EVENTS)
            for topic in topics:
                socket.setsockopt(zmq.SUBSCRIBE, topic.encode())
            self._connect(socket, publishers)
            return socket

        return self._keep(SubscriberEnd(connect, topics))

    def server(self, *addresses: str) -> ServerEnd:
        socket = self._socket(zmq.ROUTER)
        socket.setsockopt(zmq.SNDHWM, _UNREAD_REPLIES)
        socket.setsockopt(zmq.RCVHWM, _WAITING_REQUESTS)
        socket.setsockopt(zmq.HANDSHAKE_IVL, int(_HANDSHAKE_OF_CLIENT * 1000))
        socket.setsockopt(zmq.MAXMSGSIZE, _MAX_REQUEST)
        socket.copy_threshold = LONG  # the bus reports when it holds a longer reply no more
        return self._keep(ServerEnd(socket, self._bind(socket, *addresses)))

    def requester(self, address: str) -> RequesterEnd:
        socket = self._socket(zmq.REQ)
        socket.setsockopt(zmq.REQ_RELAXED, 1)  # repeat a request on the same socket after a time-out,
        socket.setsockopt(zmq.REQ_CORRELATE, 1)  # and drop the late reply to the first one
        self._connect(socket, [address])
        return self._keep(RequesterEnd(socket))

    def pusher(self, address: str) -> PusherEnd:
        end = self._keep(PusherEnd(self._socket(zmq.PUSH, _LINGER)))
        self._connect(end.socket, [address])  # the end already notes its events: it misses no handshake
        self._pushers.append(end)
        return end

    def puller(self, *addresses: str) -> PullerEnd:
        socket = self._socket(zmq.PULL)
        return self._keep(PullerEnd(socket, self._bind(socket, *addresses)))

    def wait(self, *ends: Endpoint, timeout: float) -> None:
        for pusher in self._pushers:
            pusher.repeat()
        if not ends:
            time.sleep(timeout)  # a poll of nothing returns at once
            return
        poller = zmq.Poller()
        for end in map(self._ends.__getitem__, ends):
            if isinstance(end, SubscriberEnd) and end.received:
                return
            poller.register(end.socket, zmq.POLLIN)
        poller.poll(int(timeout * 1000))

    def close(self, *, now: bool = False) -> None:
        if now:
            for opened in self._ends.values():
                opened.socket.close(linger=0)
        for end in self._ends:
            end.close()
        self._curve.close()
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
        socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT)
        return socket

    def _bind(self, socket: zmq.Socket[bytes], *addresses: str) -> Bound:
        _raise_descriptor_limit()
        bound = Bound()
        for address in sorted(addresses, key=is_tcp):  # the options of a connection of this host are set already
            try:
                if is_tcp(address):
                    bound.refusals.append(self._curve.bind(socket, address))
                else:
                    with sole_server(address) as lock:
                        socket.bind(address)
                    bound.locks.append(lock)
            except (zmq.ZMQError, BusError) as error:
                socket.close()
                bound.release()
                if isinstance(error, BusError):
                    raise
                raise BusError(address, f"{error.strerror}: {_another(address)}") from error
        return bound

    def _connect(self, socket: zmq.Socket[bytes], addresses: Collection[str]) -> None:
        self._connections += len(addresses)
        if self._connections > _FEW:
            _raise_descriptor_limit()
        try:
            for address in sorted(addresses, key=is_tcp):  # as above
                if is_tcp(address):
                    socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT_TO_HOST)
                    self._curve.connect(socket, address)
                else:
                    socket_path(address)
                    socket.connect(address)
        except BusError:
            socket.close()
            raise


def _another(address: str) -> str:
    return "choose another address" if is_tcp(address) else "choose another folder with --run-dir"


def _raise_descriptor_limit() -> None:
    """Allow as many connections as possible: libzmq 4.3.5 aborts if no descriptor is left for one of them."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
