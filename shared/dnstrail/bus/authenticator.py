"""The authentication of clients of other hosts: a thread that admits those whose keys are allowed (RFC 27/ZAP).

It is our own, since strangers reach it: the authenticator of pyzmq logs each refusal, and reads the keys once.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import zmq
from zmq.utils import z85

from dnstrail.bus.allowed_clients import AllowedClients
from dnstrail.log_pause import LogPause

_ZAP = "inproc://zeromq.zap.01"
_CONTROL = "inproc://authenticator"
_VERSION, _CURVE = b"1.0", b"CURVE"
_ADMITTED, _REFUSED = b"200", b"300"  # after 300 a client tries again: its key may be allowed later
_PATIENCE = 2.0  # seconds for the thread to end


class Authenticator:
    """The thread that answers for all sockets of one context.

    A connection whose key was removed later stays open. The relay counts the connections that were refused.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: Path) -> None:
        self._allowed = AllowedClients(keys)
        self._refused = defaultdict[str, LogPause](LogPause)  # by address
        self._zap = context.socket(zmq.REP)
        self._zap.bind(_ZAP)
        self._control, self._end = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
        for socket in (self._zap, self._control, self._end):
            socket.linger = 0
        self._end.bind(_CONTROL)
        self._control.connect(_CONTROL)
        self._thread = threading.Thread(target=self._run, name="authenticator", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._control.send(b"")
        self._thread.join(_PATIENCE)
        self._control.close()

    def _run(self) -> None:
        poller = zmq.Poller()
        for socket in (self._zap, self._end):
            poller.register(socket, zmq.POLLIN)
        while self._end not in (ready := dict(poller.poll())):
            if self._zap in ready:
                self._answer(self._zap.recv_multipart())
        for socket in (self._zap, self._end):
            socket.close()

    def _answer(self, request: list[bytes]) -> None:
        """Answer a request for authentication."""
        version, number, domain, _, _, mechanism, *credentials = request
        name = None
        if version == _VERSION and mechanism == _CURVE and len(credentials) == 1:
            key = z85.encode(credentials[0]).decode()
            name = self._allowed.name_of(key)
            if name is None:
                self._log(domain.decode(), key)
        status = _REFUSED if name is None else _ADMITTED
        self._zap.send_multipart([_VERSION, number, status, b"", (name or "").encode(), b""])

    def _log(self, address: str, key: str) -> None:
        """Log the key of a refused client, if no other was logged just before."""
        refused = self._refused[address]
        if refused.note(time.monotonic()):
            import structlog  # noqa: PLC0415 - it takes 0.1 s, and lookups do without

            with suppress(OSError):
                structlog.get_logger().warning("key_not_allowed", address=address, key=key, refused=refused.count)
