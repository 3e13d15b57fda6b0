"""The dnstap source: a unix socket to which resolvers write what they ask and answer, also over encrypted ways."""

from __future__ import annotations

import os
import selectors
import socket
import stat
import struct
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from dnstrail.bus.ipc import default_run_dir, sole_server
from dnstrail.errors import SourceUnavailable
from dnstrail.events import NET_PACKET_DNS
from dnstrail_probe.formats.dnstap import read_dnstap
from dnstrail_probe.formats.frame_stream import FrameStream
from dnstrail_probe.source import Captures

MOST_WRITERS = 64
_WAITING = 16  # writers that have not been accepted yet
_AT_ONCE, _LEAST = 1 << 16, 1 << 12  # bytes read in one go: from all that have some, and from each at the least


class _Writer:
    """One connection: its stream, and what has come of the frame that is not whole yet."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.stream = FrameStream()
        self.buffer = bytearray()

    def receive(self, size: int, frames: list[bytes]) -> bool:
        """Append the frames that came; False at the end. Raises struct.error where it is no stream of dnstap."""
        try:
            data = self.connection.recv(size)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.buffer += data
        used, _ = self.stream.split(self.buffer, frames)
        del self.buffer[:used]
        return bool(data) and self._answer() and not self.stream.ended

    def _answer(self) -> bool:
        reply = self.stream.take_reply()
        try:
            return not reply or self.connection.send(reply) == len(reply)
        except OSError:  # it has gone, or does not read what it asked for
            return False


class DnstapSocket:
    """What resolvers write to a unix socket; by default dnstap.sock beside the other sockets.

    Raises:
        SourceUnavailable: no socket can be made there.
        BusError: another process has it, or its folder cannot be used.
    """

    live = True

    def __init__(self, path: str = "") -> None:
        self.path = Path(path) if path else default_run_dir() / "dnstap.sock"
        self.name = f"dnstap socket {self.path}"
        self.counters: Counter[str] = Counter()
        self._selector = selectors.DefaultSelector()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._lock: int | None = None
        try:
            self._lock = _bind(self._socket, self.path)
            self._socket.listen(_WAITING)
        except BaseException:
            self.close()
            raise
        self._selector.register(self._socket, selectors.EVENT_READ)

    def read(self, timeout: float) -> Captures | None:
        """What the writers have sent; waits for `timeout` seconds where that is nothing."""
        captures: Captures = []
        ready = self._selector.select(timeout)
        for key, _ in ready:
            if key.data is None:
                self._accept()
            else:
                captures += self._receive(key.data, max(_AT_ONCE // len(ready), _LEAST))
        return captures

    def close(self) -> None:
        """Close all connections, and take the socket away."""
        for key in list((self._selector.get_map() or {}).values()):
            if key.data is not None:
                self._close(key.data)
        self._selector.close()
        self._socket.close()
        if self._lock is not None:
            self.path.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def _accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError:  # it has gone, or there are no descriptors left
            self.counters["dnstap_not_accepted"] += 1
            return
        if len(self._selector.get_map()) > MOST_WRITERS:
            self.counters["dnstap_too_many_writers"] += 1
            connection.close()
            return
        connection.setblocking(False)
        self._selector.register(connection, selectors.EVENT_READ, _Writer(connection))

    def _receive(self, writer: _Writer, size: int) -> Captures:
        frames: list[bytes] = []
        try:
            goes_on = writer.receive(size, frames)
        except struct.error:
            self.counters["dnstap_bad_stream"] += 1
            goes_on = False
        else:
            if not goes_on and writer.buffer:
                self.counters["dnstap_cut_short"] += 1
        if not goes_on:
            self._close(writer)
        return self._messages(frames)

    def _messages(self, frames: list[bytes]) -> Captures:
        arrival = time.time_ns()
        self.counters["packets"] += len(frames)
        captures: Captures = []
        for frame in frames:
            found = read_dnstap(frame, arrival)
            if isinstance(found, str):
                self.counters[found] += 1
            else:
                captures.append((NET_PACKET_DNS, found))
        return captures

    def _close(self, writer: _Writer) -> None:
        self._selector.unregister(writer.connection)
        writer.connection.close()


def _bind(listening: socket.socket, path: Path) -> int:
    """Bind to a path, over a socket that was left there, and over nothing else; the lock of the path."""
    with suppress(OSError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise SourceUnavailable("dnstap", f"{path} is no socket: a file of dnstap is read by its path alone")
    with sole_server(f"ipc://{path.absolute()}") as lock:
        try:
            path.unlink(missing_ok=True)
            listening.bind(str(path))
        except OSError as error:
            raise SourceUnavailable("dnstap", f"{path} cannot be bound: {error.strerror}") from error
    return lock
