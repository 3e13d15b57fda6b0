"""The bus over ZeroMQ: XPUB/SUB for events, ROUTER/REQ for lookups, PUSH/PULL for findings."""

from __future__ import annotations

import math
import os
import resource
import socket
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import zmq
import zmq.utils.garbage  # long messages need it, when this process may not be able to read it any more
from zmq.backend import zmq_poll

from dnstrail.bus import ipc, tcp
from dnstrail.bus.contract import Endpoint
from dnstrail.bus.curve import Curve
from dnstrail.bus.ends import (
    LONG,
    Bound,
    End,
    PublisherEnd,
    PullerEnd,
    PusherEnd,
    RequesterEnd,
    ServerEnd,
)
from dnstrail.bus.gate import Gate
from dnstrail.bus.ipc import best_address, direct_address, is_open, owners_socket, socket_path, sole_server
from dnstrail.bus.keys import Keys
from dnstrail.bus.relay import ANY, Allowance
from dnstrail.bus.remote_host import RemoteHost
from dnstrail.bus.subscriber_end import Connect, Publishers, SubscriberEnd
from dnstrail.bus.subscriptions import MOST_CHANGES
from dnstrail.bus.tcp import is_tcp
from dnstrail.errors import BusError

_MOST_SOCKETS = 16_384  # a worker has some for each probe
_FEW = 32  # connections for which any limit on descriptors is enough
#: findings that their receiver has not read -> they wait at their sender; a `dns_answer_conflict` is lost, with a line
#: in the log
_UNREAD = 1000
#: replies that one client has not read -> further replies are dropped
_UNREAD_REPLIES = 500  # short ones are bounded by this alone: 4 MiB
_WAITING = 3000  # messages that wait at their receiver
#: messages of events that wait at a probe for one subscriber -> a live probe drops the message, and the subscriber
#: counts it in `lost`; the probe of a file waits
_UNREAD_EVENTS = 800  # the largest batches take 100 MiB
_WAITING_EVENTS = 1600  # 200 MiB
_WAITING_OF_HOST = 100  # the same of one other host: 12.5 MiB
#: bytes of a message of events of another host -> the connection is closed
_MAX_OF_HOST = 1 << 20  # a batch has 128 KiB at most
#: bytes of a message on the bus -> the connection is closed
_MAX_MESSAGE = 16 << 20
#: bytes of a message of a subscriber -> the connection is closed
_MAX_SUBSCRIPTION = 256
#: bytes of one frame of a request -> the connection is closed
_MAX_REQUEST = 2 << 20
_OF_SUBSCRIBER = Allowance(MOST_CHANGES * 2 * _MAX_SUBSCRIPTION)
#: bytes of requests without an answer, of one user or host -> the connection is closed and counted: `clients_refused`,
#: `subscribers_refused`
_MOST_UNANSWERED = 16 << 20
_OF_CLIENT = Allowance(_MOST_UNANSWERED, renewed=True)
_MOST_REPLIED = 64 << 20  # bytes that a server of another host may send for one request
_OF_SERVER = Allowance(_MOST_REPLIED, renewed=True)
#: bytes of a publisher of another host that became no message -> the connection is closed, and made again: a line in
#: the log
_MOST_UNFINISHED = 16 << 20  # more than wait here
_OF_PUBLISHER = Allowance(_MOST_UNFINISHED, renewed=True, gathered=True)
_BACKLOG = 1024  # connections that wait to be accepted
_WAITING_REQUESTS = 16  # unread requests of one client; beyond them its socket has to wait
_HANDSHAKE = 2.0  #: seconds for the greeting of a new connection -> the connection is closed
#: seconds for the greeting of a new connection at the socket for lookups -> the connection is closed
_HANDSHAKE_OF_CLIENT = (
    30.0  # the same at a server. A plain REQ socket sends a request no second time if a stall is longer
)
_HEARTBEAT = 2000  # ms between heartbeats; a peer that is silent for twice as long is disconnected
_LINGER = 3000  # ms for which a closed sender of events or findings still delivers
#: ms for which the ended probe of a file waits for subscribers that confirm no turns -> they miss what they have not
#: read
LINGER_LOSSLESS = 60_000  # libzmq may keep a subscriber that has left until then
_LOSSLESS_WAIT = 100  # ms after which a lossless send gives the message back
_RECONNECT = 20  # ms, and up to as much again: the events of a file begin 100 ms after the last subscription
_RECONNECT_TO_HOST = 1000  # ms up to which this doubles for another host

_NOTED = 0.01  # seconds between two looks at what subscribers sent
_READABLE = int(zmq.POLLIN)

E = TypeVar("E", bound=End | SubscriberEnd)


class ZmqBus:
    """One ZeroMQ context and the ends opened from it. It belongs to one thread.

    Every socket has a high-water mark, a size limit and a linger time, so that no peer makes a worker grow or hang.
    libzmq holds a message whose frames never end until its end. The relay cuts off other users, and other hosts, that
    send one. Root and the owner of the folder can exceed the worker's memory limit.

    `keys` are the keys for addresses of other hosts. A bus that is not `guarded` connects to other hosts without the
    relay, as a client may that asks a server of its own choice.
    """

    def __init__(self, keys: Keys | None = None, *, guarded: bool = True) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, _MOST_SOCKETS)
        self._waker = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._curve = Curve(self._context, keys)
        self._gate = Gate()
        self._guarded = guarded
        self._outward: dict[str, tuple[str, int]] = {}  # by tcp address: the address and number of the way there
        self._folder: TemporaryDirectory[str] | None = None
        self._ends: dict[Endpoint, End | SubscriberEnd] = {}
        self._pushers: list[PusherEnd] = []
        self._publishers: list[PublisherEnd] = []
        self._noted = 0.0  # when the changes of their subscribers were noted last
        self._connections = 0

    def publisher(self, *addresses: str, lossless: bool) -> PublisherEnd:
        end = self._socket(zmq.XPUB, _LINGER)
        end.setsockopt(zmq.XPUB_VERBOSER, 1)
        end.setsockopt(zmq.XPUB_NODROP, 1)
        end.setsockopt(zmq.RCVHWM, 1)  # libzmq reads all waiting subscriptions in one call, and a flood never ends
        end.setsockopt(zmq.SNDHWM, _UNREAD_EVENTS)
        end.setsockopt(zmq.MAXMSGSIZE, _MAX_SUBSCRIPTION)
        if lossless:
            end.setsockopt(zmq.SNDTIMEO, _LOSSLESS_WAIT)
            end.setsockopt(zmq.LINGER, LINGER_LOSSLESS)
        bound = self._bind(end, *addresses, allowance=_OF_SUBSCRIBER)
        self._publishers.append(publisher := PublisherEnd(end, bound, lossless=lossless))
        return self._keep(publisher)

    def subscriber(self, addresses: Iterable[str], topics: Iterable[str]) -> SubscriberEnd:
        given = dict.fromkeys(addresses)
        here = [address for address in given if not is_tcp(address)]
        publishers = [Publishers(None, self._connect_to(*here))] if here else []
        for address in filter(is_tcp, given):
            permit = partial(self._permit, address)
            publishers.append(Publishers(self._curve.remote_at(address), self._connect_to(address), permit))
        return self._keep(SubscriberEnd(publishers, topics))

    def server(self, *addresses: str) -> ServerEnd:
        end = self._socket(zmq.ROUTER)
        end.setsockopt(zmq.SNDHWM, _UNREAD_REPLIES)
        end.setsockopt(zmq.RCVHWM, _WAITING_REQUESTS)
        end.setsockopt(zmq.HANDSHAKE_IVL, int(_HANDSHAKE_OF_CLIENT * 1000))
        end.setsockopt(zmq.MAXMSGSIZE, _MAX_REQUEST)
        end.copy_threshold = LONG  # the bus reports when it holds a longer reply no more
        return self._keep(ServerEnd(end, self._bind(end, *addresses, allowance=_OF_CLIENT)))

    def requester(self, address: str) -> RequesterEnd:
        def connect() -> zmq.Socket[bytes]:
            end = self._socket(zmq.REQ)
            end.setsockopt(zmq.REQ_RELAXED, 1)  # repeat a request on the same socket after a time-out,
            end.setsockopt(zmq.REQ_CORRELATE, 1)  # and drop the late reply to the first one
            self._connect(end, [address], _OF_SERVER)
            return end

        return self._keep(RequesterEnd(connect, self._remote_at(address)))

    def pusher(self, address: str) -> PusherEnd:
        end = self._keep(PusherEnd(self._socket(zmq.PUSH, _LINGER)))
        self._connect(end.socket, [address])  # the end already notes its events: it misses no handshake
        self._pushers.append(end)
        return end

    def puller(self, *addresses: str) -> PullerEnd:
        end = self._socket(zmq.PULL)
        return self._keep(PullerEnd(end, self._bind(end, *addresses)))

    def wait(self, *ends: Endpoint, timeout: float, file: int | None = None) -> bool:
        for pusher in self._pushers:
            pusher.repeat()
        now = time.monotonic()
        if now >= self._noted + _NOTED:  # it costs as much as the rest of a wait that ends at once
            self._noted = now
            for publisher in self._publishers:
                publisher.note_changes()
        if not ends and file is None:
            time.sleep(timeout)  # a poll of nothing returns at once
            return False
        deadline = now + timeout
        opened = [self._ends[end] for end in ends]
        subscribers = [end for end in opened if isinstance(end, SubscriberEnd)]
        sources = [end.descriptor if isinstance(end, SubscriberEnd) else end.socket for end in opened]
        watched: list[tuple[Any, int]] = [(source, _READABLE) for source in (self._waker, *sources)]
        if file is not None:
            watched.append((file, _READABLE))
        descriptors = [subscriber.descriptor for subscriber in subscribers]
        while not any(subscriber.has_message for subscriber in subscribers):
            left = max(deadline - time.monotonic(), 0)
            arrived = [source for source, _ in zmq_poll(watched, math.ceil(left * 1000))]
            if self._waker in arrived:
                os.eventfd_read(self._waker)
            if any(source not in descriptors for source in arrived):
                return True
            if not left:
                return False
        return True

    def wake(self) -> None:
        if self._waker >= 0:
            with suppress(OSError):  # another thread closes the bus meanwhile
                os.eventfd_write(self._waker, 1)

    def close(self, *, now: bool = False) -> None:
        waker, self._waker = self._waker, -1
        if waker >= 0:
            os.close(waker)
        if now:
            for opened in self._ends.values():
                if isinstance(opened, End):  # a subscriber never lingers
                    opened.socket.close(linger=0)
        for end in self._ends:
            end.close()
        self._curve.close()
        self._context.destroy()  # and the sockets whose bind failed
        self._gate.close()
        if self._folder is not None:
            self._folder.cleanup()

    def _keep(self, end: E) -> E:
        self._ends[end] = end
        return end

    def _socket(self, kind: int, linger: int = 0) -> zmq.Socket[bytes]:
        end = self._context.socket(kind)
        end.setsockopt(zmq.LINGER, linger)
        end.setsockopt(zmq.SNDHWM, _UNREAD)
        end.setsockopt(zmq.RCVHWM, _WAITING)
        end.setsockopt(zmq.MAXMSGSIZE, _MAX_MESSAGE)
        end.setsockopt(zmq.HANDSHAKE_IVL, int(_HANDSHAKE * 1000))
        if kind == zmq.REQ:
            # Never on an end that is bound: if a peer hangs up whose messages are not all read, libzmq 4.3.5 aborts
            # at the next heartbeat ("_io_error"). Turns are the heartbeat of events; TCP keepalive finds dead hosts.
            end.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT)
            end.setsockopt(zmq.HEARTBEAT_TIMEOUT, 2 * _HEARTBEAT)
        end.setsockopt(zmq.RECONNECT_IVL, _RECONNECT)
        return end

    def _bind(self, end: zmq.Socket[bytes], *addresses: str, allowance: Allowance = ANY) -> Bound:
        """Bind a socket; `allowance` bounds what a client of another user or host may send."""
        _raise_descriptor_limit()
        end.setsockopt(zmq.BACKLOG, _BACKLOG)
        bound = Bound(lambda: self._gate.relay)
        for address in sorted(addresses, key=is_tcp):  # the options of a connection of this host are set already
            try:
                if is_tcp(address):
                    inner = self._private() / f"{len(self._ends)}-{address.rpartition(':')[2]}.sock"
                    self._curve.bind(end, address, inner)
                    self._lead(tcp.listener_at(address), inner, allowance, bound)
                else:
                    self._bind_here(end, address, allowance, bound)
            except (zmq.ZMQError, OSError, BusError) as error:
                end.close()
                bound.release()
                if isinstance(error, BusError):
                    raise
                raise BusError(address, f"{error.strerror}: {_another(address)}") from error
        return bound

    def _bind_here(self, end: zmq.Socket[bytes], address: str, allowance: Allowance, bound: Bound) -> None:
        """Bind a socket of this host: where other users may come in, they come by the relay."""
        path, direct = socket_path(address), direct_address(address)
        with sole_server(address) as lock:
            if is_open(path.parent):
                with owners_socket(direct):
                    end.bind(direct)
                self._lead(ipc.listener_at(address), socket_path(direct), allowance, bound)
            else:
                Path(direct.removeprefix("ipc://")).unlink(missing_ok=True)  # of an earlier server
                end.bind(address)
        bound.releases.append(partial(os.close, lock))

    def _lead(self, listener: socket.socket, inner: Path, allowance: Allowance, bound: Bound) -> None:
        """Lead the clients of a listening socket through the relay to a socket of this process."""
        number = self._gate.open(listener, str(inner), allowance)
        bound.refusals.append(lambda: self._gate.refused(number))
        bound.releases.append(partial(self._gate.close_way, number))

    def _by_relay(self, address: str, allowance: Allowance) -> str:
        """Return an address of this process alone from which the relay leads to another host."""
        if address not in self._outward:
            by = f"ipc://{self._private() / f'to-{len(self._outward)}.sock'}"
            self._outward[address] = by, self._gate.open(ipc.listener_at(by), address, allowance)
        return self._outward[address][0]

    def _permit(self, address: str) -> None:
        """Let a publisher of another host go on."""
        if address in self._outward:
            self._gate.permit(self._outward[address][1])

    def _private(self) -> Path:
        """Return a folder of this process alone."""
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="dnstrail-")
            Path(self._folder.name).chmod(0o700)  # whatever the umask
        return Path(self._folder.name)

    def _connect_to(self, *addresses: str) -> Connect:
        """Return how a subscriber connects to publishers of one host."""

        def connect(topics: Iterable[str]) -> zmq.Socket[bytes]:
            end = self._socket(zmq.SUB)
            end.setsockopt(zmq.RCVHWM, _WAITING_OF_HOST if is_tcp(addresses[0]) else _WAITING_EVENTS)
            end.setsockopt(zmq.MAXMSGSIZE, _MAX_OF_HOST if is_tcp(addresses[0]) else _MAX_MESSAGE)
            for topic in topics:
                end.setsockopt(zmq.SUBSCRIBE, topic.encode())
            self._connect(end, addresses, _OF_PUBLISHER)
            return end

        return connect

    def _remote_at(self, address: str) -> RemoteHost | None:
        return self._curve.remote_at(address) if is_tcp(address) else None

    def _connect(self, end: zmq.Socket[bytes], addresses: Collection[str], allowance: Allowance = ANY) -> None:
        self._connections += len(addresses)
        if self._connections > _FEW:
            _raise_descriptor_limit()
        try:
            for address in sorted(addresses, key=is_tcp):  # as above
                if is_tcp(address):
                    end.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT_TO_HOST)
                    by = address
                    if self._guarded:
                        by = self._by_relay(address, allowance)
                        end.setsockopt(zmq.HANDSHAKE_IVL, 0)  # the relay lets it begin, and ends it
                    self._curve.connect(end, address, by)
                else:
                    end.connect(best_address(address))
        except BusError:
            end.close()
            raise


def _another(address: str) -> str:
    return "choose another address" if is_tcp(address) else "choose another folder with --run-dir"


def _raise_descriptor_limit() -> None:
    """Allow as many connections as possible: libzmq 4.3.5 aborts if no descriptor is left for one of them."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
