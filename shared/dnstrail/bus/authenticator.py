"""The authentication of clients of other hosts: a thread that admits those whose keys are allowed (RFC 27/ZAP)."""

from __future__ import annotations

import struct
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import zmq
from zmq.utils import z85

from dnstrail.bus.allowed_clients import AllowedClients
from dnstrail.bus.strangers import Strangers

EVERY = 10.0  # seconds between two lines of the log on refusals at one address
_ZAP = "inproc://zeromq.zap.01"
_CONTROL = "inproc://authenticator"
_VERSION, _CURVE = b"1.0", b"CURVE"
_ADMITTED, _REFUSED = b"200", b"300"  # after 300 a client tries again: its key may be allowed later
_NOT_ALLOWED, _NO_HANDSHAKE = "its key is not allowed", "it showed no key, or expects another server"
_TOO_MANY = "its host opens too many connections"
_ACCEPTED = int(zmq.EVENT_ACCEPTED)
_FAILED = int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
_EVENT = struct.Struct("=Hi")  # of a monitor: what happened, and the descriptor of the connection or an error
_PATIENCE = 2.0  # seconds for the thread to end


class Authenticator:
    """The thread that answers for all sockets of one context.

    `refused` counts the refused connections by address. A connection whose key was removed later stays open.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: Path) -> None:
        self.refused: Counter[str] = Counter()
        self._allowed = AllowedClients(keys)
        self._context = context
        self._shut: Counter[str] = Counter()  # by address: connections that were shut down, and have not ended yet
        self._logged: dict[str, float] = {}
        self._watched: dict[zmq.Socket[bytes], tuple[str, Strangers]] = {}
        self._zap = context.socket(zmq.REP)
        self._zap.bind(_ZAP)
        self._control, self._orders = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
        for socket in (self._zap, self._control, self._orders):
            socket.linger = 0
        self._orders.bind(_CONTROL)
        self._control.connect(_CONTROL)
        self._thread = threading.Thread(target=self._run, name="authenticator", daemon=True)
        self._thread.start()

    def watch(self, socket: zmq.Socket[bytes], address: str) -> None:
        """Watch the connections of a socket that is to be bound at an address."""
        events = f"inproc://events {address}"
        socket.monitor(events, _ACCEPTED | _FAILED)
        self._control.send_json([events, address])

    def close(self) -> None:
        """End the thread."""
        self._control.send_json([])
        self._thread.join(_PATIENCE)
        self._control.close()

    def _run(self) -> None:
        poller = zmq.Poller()
        for socket in (self._zap, self._orders):
            poller.register(socket, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if self._orders in ready and not self._obey(poller, self._orders.recv_json()):
                break
            if self._zap in ready:
                self._answer(self._zap.recv_multipart())
            for socket in self._watched.keys() & ready.keys():
                self._note(*self._watched[socket], *socket.recv_multipart())
        for socket in (self._zap, self._orders, *self._watched):
            socket.close()

    def _obey(self, poller: zmq.Poller, order: Any) -> bool:
        """Watch one more socket, and return whether to go on."""
        if order:
            events, address = order
            socket = self._context.socket(zmq.PAIR)
            socket.linger = 0
            socket.connect(events)
            poller.register(socket, zmq.POLLIN)
            self._watched[socket] = address, Strangers()
        return bool(order)

    def _answer(self, request: list[bytes]) -> None:
        """Answer a request for authentication."""
        version, number, domain, peer, _, mechanism, *credentials = request
        name = None
        if version == _VERSION and mechanism == _CURVE and len(credentials) == 1:
            key = z85.encode(credentials[0]).decode()
            name = self._allowed.name_of(key)
            if name is None:
                self._refuse(domain.decode(), _NOT_ALLOWED, peer=peer.decode(errors="replace"), key=key)
        status = _REFUSED if name is None else _ADMITTED
        self._zap.send_multipart([_VERSION, number, status, b"", (name or "").encode(), b""])

    def _note(self, address: str, strangers: Strangers, event: bytes, endpoint: bytes) -> None:
        """Note an event of a connection: it was accepted, or its handshake failed."""
        if not endpoint.startswith(b"tcp:"):  # the socket serves this host as well
            return
        what, value = _EVENT.unpack(event)
        if what == _ACCEPTED:
            if peer := strangers.accept(value, time.monotonic()):
                self._shut[address] += 1
                self._refuse(address, _TOO_MANY, peer=peer)
        elif self._shut[address]:  # the handshake of a connection that is counted already
            self._shut[address] -= 1
        else:
            self._refuse(address, _NO_HANDSHAKE)

    def _refuse(self, address: str, reason: str, **client: str) -> None:
        """Count a refusal, and log it if no other was logged just before."""
        self.refused[address] += 1
        now = time.monotonic()
        if now - self._logged.get(address, -EVERY) >= EVERY:
            self._logged[address] = now
            import structlog  # noqa: PLC0415 - it takes 0.1 s, and lookups do without

            with suppress(OSError):
                structlog.get_logger().warning(
                    "client_refused", address=address, reason=reason, **client, refused=self.refused[address]
                )
