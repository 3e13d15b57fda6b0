"""The relay: the process through which other users and other hosts reach a worker, so that none of them ends it.

libzmq 4.3.5 aborts if a peer leaves messages unread, sends a heartbeat behind them, and hangs up. It also aborts if no
descriptor is left for a connection. The relay therefore accepts these connections, and passes their bytes on to a
socket of the worker. It never hangs up first: when a client has left, the relay ends its own sending direction, and
waits until libzmq closes the connection.
"""

from __future__ import annotations

import errno
import json
import math
import resource
import selectors
import socket
import struct
import time
from collections import Counter, defaultdict
from contextlib import suppress
from functools import partial
from ipaddress import IPv6Address, ip_address, ip_network
from itertools import islice
from typing import NamedTuple

from dnstrail.bus.client_bytes import NO_HEARTBEAT, REQUEST, Introduction, MessageBound
from dnstrail.bus.handshakes import PATIENCE, WELCOMED, Handshakes
from dnstrail.bus.relayed import CHUNK, RelayedConnection
from dnstrail.bus.tcp import KEEPALIVE, connecting_to, is_tcp

#: connections of one user of this host, at the sockets of one worker -> they are closed and counted: `clients_refused`,
#: `subscribers_refused`; root and the users of the service have no bound of their own
MOST_OF_USER = 256
#: connections of one other host, at the sockets of one worker -> they are closed and counted: `clients_refused`,
#: `subscribers_refused`; the IPv6 addresses of one network (/64) are one host
MOST_OF_HOST = 64
#: connections of all users and hosts, at the sockets of one worker -> they are closed and counted: `clients_refused`,
#: `subscribers_refused`; with fewer than 16,384 open files (`ulimit -Hn`) it is a quarter of that number
MOST_CONNECTIONS = 4096
NO_KEY = "it showed no allowed key, or expects another server"
SLOW = "it showed no allowed key in time"
_IN_TIME = 0.95 * PATIENCE  # seconds: a connection without an allowed key is closed after PATIENCE
ANSWERED = 2 << 20  # bytes: a request of another host is shorter
TOO_MANY = "it opens too many connections"
TOO_MUCH = "it sends too much without an answer, or the end of a message"
NO_END = "it sends a message without an end, or no ZMTP 2 or 3"
_FEW_FRAMES, _FEW_BYTES = 64, 1 << 10  # beyond as many frames in one read, the next read is short: each costs time
_LINGER = 3.0  # seconds for which the last bytes of a worker are delivered
_ACCEPTED_AT_ONCE = 8
_SERVED_AT_ONCE = 16  # connections of one user or host, so that the others wait for milliseconds alone
_GATHER = 0.01  # seconds for which messages of publishers gather: to wake up for each costs more than to pass it on
_AWAITED = 0.25  # seconds after a request to another host without that: a lookup may wait for the end of a turn
_PAUSE = 0.1  # seconds between two reports, and without new connections while no descriptor is left
_ORDER = 4096  # bytes of one order at most
_REPORTED_AT_ONCE = 16
_USER, _HOST, _SERVER = "user ", "host ", "server "
_NETWORK = 64  # bits of an IPv6 network

Refusal = tuple[int, str, str]  # a way, a user or host, and a reason


class Allowance(NamedTuple):
    """The number of bytes that a client may send before it is cut off; 0 permits any number.

    `renewed`: an answer permits as many again, and the clients of one user or host have the bound together, too. The
    messages of another host are encrypted: an answer to it permits ANSWERED more, and a heartbeat what it is long. To a
    server each request permits the whole number again, and to a publisher an order of the worker, which has received
    its messages.

    `gathered`: the client is a publisher of another host, whose messages gather for some milliseconds.
    """

    most: int
    renewed: bool = False
    gathered: bool = False


ANY = Allowance(0)


class Way(NamedTuple):
    """A way through the relay, from a listening socket: inwards to the path of a socket of the worker.

    A way with a tcp address leads outwards: from the worker to another host, whose server then is the client.
    """

    number: int
    target: str
    allowance: Allowance

    @property
    def outward(self) -> bool:
        """Whether the way leads to another host."""
        return is_tcp(self.target)


class _Client:
    """A client of a way, and its user or host.

    `sent` is the number of bytes that it has sent since its last answer, `received` that of all bytes for it.
    """

    def __init__(self, way: Way, owner: str) -> None:
        self.way = way
        self.owner = owner
        self.sent = 0
        self.received = 0
        self.opened = time.monotonic()
        encrypted = way.outward or owner.startswith(_HOST)
        self.messages = None if encrypted else MessageBound()
        self.introduce = _unchanged if encrypted else Introduction(int(owner.removeprefix(_USER))).add_to
        self.answers = MessageBound(REQUEST if way.outward else NO_HEARTBEAT) if encrypted else None

    def answered(self, down: bytes) -> int:
        """Return how many of the bytes that it has sent an answer permits again."""
        if self.answers is None:
            return self.sent
        self.answers.follow(down)
        if self.way.outward and self.answers.counted:
            return self.sent
        return min(self.sent, self.answers.counted * ANSWERED or len(down))


class Relay:
    """The connections of other users and hosts to one worker. Users in `exempt` have no bound of their own.

    Orders arrive at `control`: a Way with its listening socket, the number of a way that ends, or the number of a way
    whose publisher may go on, in a list. The end of `control` ends the relay. Reports leave there: numbers of refused
    or cut connections by Refusal.
    """

    def __init__(self, control: socket.socket, exempt: frozenset[int]) -> None:
        self._control = control
        self._exempt = exempt
        self._most = min(MOST_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        self._selector = selectors.EpollSelector()
        self._published = selectors.EpollSelector()  # the connections whose messages gather
        self._gathered = 0.0  # the time until which they gather
        self._awaited = 0.0  # the time until which they do not
        self._has_more = False  # whether more of them waited than one read takes
        self._listeners: dict[int, socket.socket] = {}
        self._connections: set[RelayedConnection] = set()
        self._publishers = defaultdict[int, set[_Client]](set)  # and other servers, by their ways
        self._of_owner: Counter[str] = Counter()
        self._sent: Counter[str] = Counter()  # bytes since their last answers
        self._refused: Counter[Refusal] = Counter()
        self._handshakes = Handshakes()
        self._deferred: dict[socket.socket, None] = {}  # listeners whose clients wait for the handshakes of others
        self._paused = 0.0  # the time from which connections are accepted again
        self._until: float | None = None  # the time at which a relay without worker ends
        self._selector.register(control, selectors.EVENT_READ, ("", self._obey))
        self._watch_published()

    def run(self) -> None:
        """Pass bytes on until the worker has ended, and its last bytes are delivered."""
        reported = 0.0
        while self._until is None or (self._connections and time.monotonic() < self._until):
            self._serve(self._selector, self._longest)
            now = time.monotonic()
            if self._gathered and now >= self._gathered:
                self._pass_on_published()
            if self._refused and now >= reported + _PAUSE:
                self._report()
                reported = now
            if self._paused and now >= self._paused:
                self._resume()
            if self._handshakes or self._deferred:
                self._begin_handshakes(now)
        for connection in [*self._connections]:
            connection.close()
        self._selector.close()
        self._published.close()

    @property
    def _longest(self) -> float | None:
        """The seconds after which something is due, if nothing arrives."""
        if self._gathered:
            return max(self._gathered - time.monotonic(), 0.0)
        waits = self._refused or self._paused or self._until or self._handshakes or self._deferred
        return _PAUSE if waits else None

    def _serve(self, selector: selectors.EpollSelector, longest: float | None) -> bool:
        """Serve some of the connections of each user or host, the others are ready again; return whether any was."""
        served, registered, ready = Counter[str](), selector.get_map(), selector.select(longest)
        for key, events in ready:
            owner, serve = key.data
            if registered.get(key.fd) is key and served[owner] < _SERVED_AT_ONCE:  # else it was closed just now
                served[owner] += 1
                serve(events)
        return bool(ready)

    def _watch_published(self) -> None:
        self._selector.register(self._published, selectors.EVENT_READ, ("", self._pass_on_published))

    def _pass_on_published(self, _events: int = 0) -> None:
        """Pass on the messages of publishers. While some come they gather for a moment, unless somebody waits."""
        self._has_more, gathered = False, bool(self._gathered)
        some, now = self._serve(self._published, 0), time.monotonic()
        gathers = some and not self._has_more and now >= self._awaited
        if gathers and not gathered:
            self._selector.unregister(self._published)
        elif gathered and not gathers:
            self._watch_published()
        self._gathered = now + _GATHER if gathers else 0.0

    def _stop_gathering(self, until: float) -> None:
        """Pass on the messages of publishers as they come, until a time."""
        self._awaited, self._gathered = until, min(self._gathered, time.monotonic())

    def _obey(self, _events: int) -> None:
        message, descriptors, _, _ = socket.recv_fds(self._control, _ORDER, 1)
        if not message:
            self._selector.unregister(self._control)
            for number in [*self._listeners]:
                self._close(number)
            self._until = time.monotonic() + _LINGER
            self._stop_gathering(math.inf)
        elif descriptors:
            number, target, allowance = json.loads(message)
            way = Way(number, target, Allowance(*allowance))
            listener = self._listeners[way.number] = socket.socket(fileno=descriptors[0])
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ, ("", partial(self._accept, way, listener)))
        elif isinstance(order := json.loads(message), list):
            for publisher in self._publishers[order[0]]:
                self._permit(publisher, publisher.sent)
        else:
            self._close(order)

    def _close(self, number: int) -> None:
        listener = self._listeners.pop(number)
        self._deferred.pop(listener, None)
        self._selector.unregister(listener)
        listener.close()

    def _accept(self, way: Way, listener: socket.socket, _events: int) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            if way.outward and self._handshakes.room <= 0:
                self._deferred[listener] = None
                self._stop_accepting(listener)
                return
            try:
                client, _ = listener.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    self._pause()
                return
            try:
                if way.outward:
                    self._open_outward(way, client)
                    continue
                owner, most = self._owner(client)
                if self._of_owner[owner] >= most or len(self._connections) >= self._most:
                    self._refused[way.number, owner, TOO_MANY] += 1
                    client.close()
                else:
                    self._open(way, owner, client)
            except OSError:  # the client has left, or the worker cannot take it now: the client tries again
                client.close()

    def _pause(self) -> None:
        """Accept nothing for a while: no descriptor is left."""
        self._paused = time.monotonic() + _PAUSE
        for listener in self._listeners.values():
            self._stop_accepting(listener)

    def _resume(self) -> None:
        self._paused = 0.0
        for listener in self._listeners.values():
            self._accept_again(listener)

    def _stop_accepting(self, listener: socket.socket) -> None:
        self._selector.modify(listener, selectors.EVENT_WRITE, self._selector.get_key(listener).data)

    def _accept_again(self, listener: socket.socket) -> None:
        self._selector.modify(listener, selectors.EVENT_READ, self._selector.get_key(listener).data)

    def _begin_handshakes(self, now: float) -> None:
        """Accept connections to other hosts that have waited for the handshakes of others."""
        self._handshakes.expire(now)
        for listener in [*islice(self._deferred, max(self._handshakes.room, 0))]:
            del self._deferred[listener]
            self._accept_again(listener)

    def _owner(self, client: socket.socket) -> tuple[str, int]:
        """Return the user or host of a client, and the bound on its connections.

        Raises:
            OSError: the client has left.
        """
        if client.family == socket.AF_UNIX:
            _, user, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            return f"{_USER}{user}", MOST_CONNECTIONS if user in self._exempt else MOST_OF_USER
        for option in KEEPALIVE:
            client.setsockopt(*option)
        return f"{_HOST}{_host_of(client.getpeername()[0])}", MOST_OF_HOST

    def _open(self, way: Way, owner: str, client: socket.socket) -> None:
        """Open a connection to the worker for a client.

        Raises:
            OSError: the worker has ended, or too many connections wait for it.
        """
        worker = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            worker.setblocking(False)
            worker.connect(way.target)
        except OSError:
            worker.close()
            raise
        client.setblocking(False)
        self._connect(way, owner, client, worker)

    def _open_outward(self, way: Way, worker: socket.socket) -> None:
        """Open a connection to another host for the worker. A host that cannot be reached answers nothing.

        Raises:
            OSError: there is no way to that host.
        """
        worker.setblocking(False)
        self._connect(way, f"{_SERVER}{way.target}", connecting_to(way.target), worker)

    def _connect(self, way: Way, owner: str, client: socket.socket, worker: socket.socket) -> None:
        """Pass on what a client and the worker send."""
        sender = _Client(way, owner)
        note, ended = partial(self._note, sender), partial(self._ended, sender)
        ends = owner, client, worker
        functions = note, ended, sender.introduce
        selector = self._published if way.allowance.gathered else self._selector
        connection = RelayedConnection(selector, *ends, *functions, outward=way.outward)
        self._connections.add(connection)
        if way.outward:
            self._handshakes.begin(sender, connection, sender.opened)
            self._publishers[way.number].add(sender)
        self._of_owner[owner] += 1

    def _note(self, client: _Client, up: bytes, down: bytes) -> int:
        """Note bytes from a client, or an answer to it; return how many bytes the client may send next."""
        if client.messages is not None and up and not client.messages.follow(up):
            self._refused[client.way.number, client.owner, NO_END] += 1
            return 0
        if client.way.outward:
            self._handshakes.receive(client, len(up))
        most, renewed, gathered = client.way.allowance
        if gathered:
            self._has_more = self._has_more or len(up) == CHUNK
        elif client.way.outward and down:
            self._stop_gathering(time.monotonic() + _AWAITED)
        client.received += len(down)
        if down and renewed:
            self._permit(client, client.answered(down))
        client.sent += len(up)
        self._sent[client.owner] += len(up)
        if not most or (client.sent <= most and (not renewed or self._sent[client.owner] <= most)):
            return CHUNK if client.messages is None or client.messages.frames <= _FEW_FRAMES else _FEW_BYTES
        self._refused[client.way.number, client.owner, TOO_MUCH] += 1
        return 0

    def _permit(self, client: _Client, size: int) -> None:
        """Permit some of the bytes that a client has sent again."""
        self._sent[client.owner] -= size
        client.sent -= size

    def _ended(self, client: _Client, connection: RelayedConnection) -> None:
        self._connections.discard(connection)
        self._handshakes.end(client)
        self._publishers[client.way.number].discard(client)
        if client.owner.startswith(_HOST) and client.received <= WELCOMED:
            slow = connection.left or time.monotonic() > client.opened + _IN_TIME
            self._refused[client.way.number, client.owner, SLOW if slow else NO_KEY] += 1
        self._sent[client.owner] -= client.sent
        self._of_owner[client.owner] -= 1
        if not self._of_owner[client.owner]:
            del self._of_owner[client.owner], self._sent[client.owner]

    def _report(self) -> None:
        """Report some refusals to the worker; the others wait for the next report."""
        some = self._refused.most_common(_REPORTED_AT_ONCE)
        with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            self._control.send(
                json.dumps([[*refusal, number] for refusal, number in some]).encode(), socket.MSG_DONTWAIT
            )
            for refusal, _ in some:
                del self._refused[refusal]


def _unchanged(data: bytes) -> bytes:
    return data


def _host_of(address: str) -> str:
    """Return the address of a host, and of IPv6 the network: a host has all of its addresses."""
    parsed = ip_address(address.partition("%")[0])
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ip_network((parsed, _NETWORK), strict=False))
