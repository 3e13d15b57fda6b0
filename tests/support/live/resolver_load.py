"""The load: a resolver that reports answers by dnstap, each to a name with a number of its own."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from builders.dnstap_builders import START, WHOLE, Writer, framed, tap
from builders.talk import answer

AT_ONCE = 5  # names that are reported together
RATE = 200  # names a second
CLIENTS = 100  # one after the other
_RETRY = 0.02  # seconds until the next attempt to connect
TTL = 3600
_SECOND = 10**9  # ns


def name_of(number: int) -> str:
    """Return the name with this number."""
    return f"n{number}.example"


class Load(threading.Thread):
    """A resolver that reports new names at a rate to the probe, while there is one.

    `sent` counts the names that it has written. A name of which the probe may have received a part counts as sent.
    While no probe runs, nothing is resolved.
    """

    def __init__(self, path: Path, step: Callable[[], float] = lambda: 0.0, rate: int = RATE) -> None:
        super().__init__(daemon=True)
        self.sent = 0
        self.stop = threading.Event()
        self.lock = threading.Lock()  # held while names are sent
        self._path = path
        self._step = step
        self._pause = AT_ONCE / rate
        self._writer: Writer | None = None

    def run(self) -> None:
        """Report names until the stop signal is set."""
        while not self.stop.wait(self._pause if self._writer else _RETRY):
            with self.lock:
                self.send(range(self.sent, self.sent + AT_ONCE), name_of)
        if self._writer:
            self._writer.close()

    def send(self, numbers: range, name: Callable[[int], str]) -> bool:
        """Report some names, and count them; return False without a probe."""
        if not self._connect() or self._writer is None:
            return False
        data = framed(*(self._answered(name(number), number) for number in numbers))
        self.sent = max(self.sent, numbers.stop) if name is name_of else self.sent
        try:
            self._writer.send(data)
        except OSError:
            self._disconnect()
        return True

    def _answered(self, name: str, number: int) -> bytes:
        seconds, nanoseconds = divmod(time.time_ns() + round(self._step() * _SECOND), _SECOND)
        client = bytes((10, 9, 0, number % CLIENTS))
        message = answer(f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", name=name, ttl=TTL)
        at = {"response_time_sec": seconds, "response_time_nsec": nanoseconds}
        return tap(**{**WHOLE, **at, "query_address": client}, response_message=message)

    def _connect(self) -> bool:
        if self._writer is None:
            try:
                self._writer = Writer(self._path)
                self._writer.send(START)
            except OSError:
                self._disconnect()
        elif _closed(self._writer.socket):
            self._disconnect()
        return self._writer is not None

    def _disconnect(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None


def _closed(writing: socket.socket) -> bool:
    """Return whether the other end has closed: it sends nothing otherwise."""
    return bool(select.select([writing], [], [], 0)[0])
