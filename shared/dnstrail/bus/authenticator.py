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

from dnstrail.bus.keys import CLIENTS, public_keys
from dnstrail.bus.trust import FolderState, folder_state
from dnstrail.errors import BusError
from dnstrail.log_pause import LogPause

_TICK = 1_000_000_000  # ns: a folder that changed so recently may change again within the same time stamp
_ZAP = "inproc://zeromq.zap.01"
_CONTROL = "inproc://authenticator"
_VERSION, _CURVE = b"1.0", b"CURVE"
_ADMITTED, _REFUSED = b"200", b"300"  # after 300 a client tries again: its key may be allowed later
_PATIENCE = 2.0  # seconds for the thread to end


class AllowedClients:
    """The names of the allowed clients by their public keys.

    A folder that cannot be read allows nobody. Its fault is logged once.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._state: FolderState | None = None
        self._names: dict[str, str] = {}
        self._fault = ""

    def name_of(self, key: str) -> str | None:
        """Return the name of the client with a public key; None if it is not allowed."""
        state = folder_state(self._folder / CLIENTS)
        if state is None or state != self._state:
            self._names = self._read()
            settled = state is not None and time.time_ns() - state[2] > _TICK
            self._state = state if settled else None
        return self._names.get(key)

    def _read(self) -> dict[str, str]:
        names, fault = {}, ""
        try:
            names = {key: name for name, key in public_keys(self._folder, CLIENTS).items()}
        except (BusError, OSError) as error:
            fault = str(error)
        if fault and fault != self._fault:
            import structlog  # noqa: PLC0415 - it takes 0.1 s, and lookups do without

            structlog.get_logger().error("keys_refused", reason=fault)
        self._fault = fault
        return names


class Authenticator:
    """The thread that answers for all sockets of one context.

    A connection whose key was removed later stays open. The relay counts the connections that were refused.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: Path) -> None:
        self._allowed = AllowedClients(keys)
        self._refused = defaultdict[str, LogPause](LogPause)  # by the address of the socket that refused
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
