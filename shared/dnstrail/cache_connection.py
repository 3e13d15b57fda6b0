"""The connection of a client to one cache: it is made only to a socket that this process may believe."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from dnstrail.bus import Bus, Requester, ZmqBus
from dnstrail.bus.ipc import socket_path
from dnstrail.bus.keys import Keys
from dnstrail.bus.tcp import host_of, is_tcp
from dnstrail.bus.trust import FolderState, distrust, folder_state
from dnstrail.errors import Unavailable

_TRIES = 2  # a cache that restarts may lose a request on its way
_CLOSED = "closed", "this client was closed"
_FORKED = "forked", "the bus of this client is that of the parent process: make another client after the fork"
_BUSY = "timeout", "other requests by this client took all of its time: is the cache busy or stopped?"


class CacheConnection:
    """The connection of one process to one cache. Threads take turns. Without a `bus` it opens its own, and closes it.

    Each `timeout` is in seconds.
    """

    def __init__(self, address: str, keys: Keys | None, bus: Bus | None) -> None:
        self._address = address
        self._keys = keys
        self._folder = _folder_of(address)
        self._turn = threading.Lock()
        self._bus = bus
        self._owns_bus = bus is None
        self._fault: tuple[str, str] | None = None  # reason and remedy of `Unavailable`: it can make no request
        self._believed: FolderState | None = None
        self._requester: Requester | None = None

    def of_child(self) -> CacheConnection:
        """Return the connection of the child of a fork. Nothing that this one opened or holds works there."""
        child = CacheConnection(self._address, self._keys, None)
        child._fault = self._fault or (None if self._owns_bus else _FORKED)
        return child

    def request(self, body: bytes, timeout: float, beat: Callable[[], None]) -> bytes | None:
        """Return the reply to a request, or None if none arrived in time. `beat` is called before each try.

        Raises:
            Unavailable: this process must not believe the folder, the bus is that of its parent, the connection was
                closed, or requests of other threads took all of the time.
        """
        left = self._begin_turn(timeout)
        try:
            requester = self._connected(timeout)
            for _ in range(_TRIES):
                beat()
                reply = requester.request(body, left / _TRIES) if requester else None
                if reply is not None:
                    return reply
        finally:
            self._end_turn()
        return None

    def send(self, body: bytes, timeout: float) -> bool:
        """Send a request without waiting for its reply; return whether it could be sent.

        Raises:
            Unavailable: as by `request`.
        """
        self._begin_turn(timeout)
        try:
            requester = self._connected(timeout)
            return requester is not None and requester.send(body)
        finally:
            self._end_turn()

    def reply(self, timeout: float) -> bytes | None:
        """Return the reply to the request of `send`, or None if none has arrived.

        Raises:
            Unavailable: requests of other threads took all of the time.
        """
        self._begin_turn(timeout)
        try:
            return self._requester.reply() if self._requester else None
        finally:
            self._end_turn()

    def close(self, timeout: float) -> None:
        """Close the connection, or let the request that still runs after `timeout` close it at its end."""
        self._fault = _CLOSED
        if self._turn.acquire(timeout=timeout):
            self._end_turn()

    def _begin_turn(self, timeout: float) -> float:
        """Wait until no other thread requests; return the seconds of `timeout` that are left.

        Raises:
            Unavailable: none is left.
        """
        if self._turn.acquire(blocking=False):  # costs no look at a clock
            return timeout
        began = time.monotonic()
        if not self._turn.acquire(timeout=timeout):
            raise Unavailable(self._address, timeout, *_BUSY)
        return max(began + timeout - time.monotonic(), 0.0)

    def _end_turn(self) -> None:
        """End the turn of a thread. After `close` this closes what is open: libzmq aborts if another thread uses it."""
        if self._fault:
            self._disconnect()
            if self._bus is not None and self._owns_bus:
                self._bus.close()
                self._bus = None
        self._turn.release()

    def _connected(self, timeout: float) -> Requester | None:
        """Return the connection, made anew if the folder has changed since it was last checked; None without a folder.

        Raises:
            Unavailable: as by `request`.
        """
        if self._fault:
            raise Unavailable(self._address, timeout, *self._fault)
        if self._bus is None:
            self._bus = ZmqBus(self._keys, guarded=False)
        if self._folder is None:
            self._requester = self._requester or self._bus.requester(self._address)
            return self._requester
        folder = folder_state(self._folder)
        if folder != self._believed:
            self._disconnect()
            if folder and (fault := distrust(self._folder)):
                remedy = f"{fault}: choose another folder with --run-dir"
                raise Unavailable(self._address, timeout, "untrusted", remedy)
            self._requester = self._bus.requester(self._address) if folder else None
            self._believed = folder
        return self._requester

    def _disconnect(self) -> None:
        if self._requester is not None:
            self._requester.close()
        self._requester = self._believed = None


def _folder_of(address: str) -> Path | None:
    """Return the folder of a socket of this host, None for an address of another host."""
    if is_tcp(address):
        host_of(address)
        return None
    return socket_path(address).parent
