"""The dnstap source: a unix socket to which resolvers write their queries and answers, encrypted DNS included."""

from __future__ import annotations

import os
import selectors
import socket
import stat
import struct
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

import msgspec

from dnstrail.bus.ipc import default_run_dir, sole_server
from dnstrail.captured import Captured
from dnstrail.errors import SourceUnavailable
from dnstrail.events import NET_PACKET_DNS
from dnstrail.process.clock import StreamClock
from dnstrail_probe.check import Check, Host
from dnstrail_probe.formats.dnstap import read_dnstap
from dnstrail_probe.formats.frame_stream import FrameStream
from dnstrail_probe.source import PROBE, Captures, Opening

WRITERS = "dnstrail-dnstap"  # the group of the resolvers: its members may write to the socket, and do nothing else
MOST_WRITERS = 64  #: resolvers on the dnstap socket -> `dnstap_too_many_writers`
_WAITING = 16  # connections that the kernel holds until they are accepted
_AT_ONCE = 1 << 16  # bytes of one pass, in equal parts of the writers that have some
ENOUGH = 256  # messages after which a read makes no further pass,
LONG = 0.02  # the seconds after which it makes none, whatever arrived,
PASSES = 16  # and the most of them: 1 MiB of large messages
_ANOTHER_FOLDER = "--capture dnstap:PATH, or --run-dir"


def open_source(opening: Opening) -> DnstapSocket:
    """Open the socket at the path in the argument; the default is dnstap.sock beside the default run-dir."""
    return DnstapSocket(opening.argument, opening.clock)


def writers_folder(run_dir: Path) -> Path:
    """Return the folder of the socket by default: its users need no access to the other sockets."""
    return run_dir.with_name(f"{run_dir.name}-dnstap")


class _Writer:
    """One connection: its stream, and the bytes of a frame that is not complete yet.

    Invariant: the buffer holds less than one frame after each `receive`.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.stream = FrameStream()
        self.buffer = bytearray()

    def receive(self, size: int, frames: list[bytes]) -> bool:
        """Append the frames that arrived; return False at the end of the stream.

        Raises:
            struct.error: the bytes are no dnstap stream.
        """
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
        except OSError:  # the writer has closed, or does not read the reply that it requested
            return False


class DnstapSocket:
    """The messages that resolvers write to a unix socket.

    Invariant: a writer that breaks the format, or comes when all places are taken, is disconnected and counted, and the
    other writers continue. A loss counts a connection, since the number of its remaining messages is unknown.

    Raises:
        SourceUnavailable: the socket cannot be made.
        BusError: another process serves the socket, or its folder cannot be used.
    """

    live = True
    damage = ""
    capabilities = ()
    lost_by_cgroup = ()
    losses = MappingProxyType(
        dict.fromkeys(
            ("dnstap_not_accepted", "dnstap_too_many_writers", "dnstap_bad_stream", "dnstap_cut_short"), PROBE
        )
    )

    def __init__(self, path: str, clock: StreamClock) -> None:
        self.path = Path(path) if path else writers_folder(default_run_dir()) / "dnstap.sock"
        self.name = f"dnstap socket {self.path}"
        self.counters: Counter[str] = Counter()
        self._clock = clock
        self._selector = selectors.EpollSelector()
        self.descriptor = self._selector.fileno()
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
        """Return the messages that arrived, after waiting for the first at most `timeout` seconds."""
        captures: Captures = []
        ready = self._selector.select(timeout)
        end = self._clock.clock.monotonic() + LONG
        for _ in range(PASSES):
            for key, _ in ready:
                if key.data is None:
                    self._accept()
                else:
                    captures += self._receive(key.data, _AT_ONCE // len(ready))
            if not ready or len(captures) >= ENOUGH or self._clock.clock.monotonic() >= end:
                break
            ready = self._selector.select(0)
        return captures

    def close(self) -> None:
        """Close all connections, and remove the socket."""
        for key in list((self._selector.get_map() or {}).values()):
            if key.data is not None:
                self._close(key.data)
        self._selector.close()
        self._socket.close()
        if self._lock is not None:
            with suppress(OSError):  # a probe without privileges may not remove it; the next one replaces it
                self.path.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def _accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError:  # the writer has closed, or no descriptor is left
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
        arrival = self._clock.now()
        wall = arrival + self._clock.difference()
        self.counters["packets"] += len(frames)
        messages: list[Captured] = []
        for frame in frames:
            found = read_dnstap(frame, wall)
            if isinstance(found, str):
                self.counters[found] += 1
            else:
                messages.append(found)
        stamps = self._clock.from_wall(message.timestamp for message in messages)
        if ahead := sum(stamp > arrival for stamp in stamps):
            self.counters["stamp_ahead"] += ahead
        return [
            (NET_PACKET_DNS, msgspec.structs.replace(message, timestamp=min(stamp, arrival)))
            for message, stamp in zip(messages, stamps, strict=True)
        ]

    def _close(self, writer: _Writer) -> None:
        self._selector.unregister(writer.connection)
        writer.connection.close()


def _bind(listening: socket.socket, path: Path) -> int:
    """Bind to a path and return its lock. A stale socket is replaced; anything else at the path is an error."""
    with suppress(OSError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise SourceUnavailable("dnstap", f"{path} is no socket", f"--capture {path} reads a dnstap file")
    with sole_server(f"ipc://{path.absolute()}", WRITERS) as lock:
        try:
            path.unlink(missing_ok=True)
            listening.bind(str(path))
        except OSError as error:
            raise SourceUnavailable("dnstap", f"{path} cannot be bound: {error.strerror}", _ANOTHER_FOLDER) from error
    return lock


def _check_folder(host: Host) -> None:
    """Raise OSError unless the folder of the socket exists and is writable, or can be made."""
    folder = writers_folder(host.run_dir)
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OSError(f"{existing} is not writable")


CHECKS = (Check("socket folder", "dnstap", _check_folder, _ANOTHER_FOLDER),)
