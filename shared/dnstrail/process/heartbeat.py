"""The heartbeat of a worker's main loop, for the all-in-one run and for systemd (sd_notify(3))."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

#: variable: internal: descriptor of an eventfd(2); the all-in-one run sets it for each worker
HEARTBEAT = "DNSTRAIL_HEARTBEAT"
#: variable: socket to which a worker reports that it is ready and runs (sd_notify); systemd sets it
_NOTIFY_SOCKET = "NOTIFY_SOCKET"
_EVERY = 1.0  # seconds between two beats
#: seconds of the silence of the main loop of a worker -> the all-in-one run kills the worker, names it, and ends
SILENCE = 5.0


class Heartbeat:
    """The beats of this worker. The first one also reports to systemd that the worker is ready.

    At most one beat is sent each second, so that a loop may call `beat` for every event. A beat never waits, and no
    failure reaches the worker.
    """

    def __init__(
        self, environment: Mapping[str, str] = os.environ, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        parent = environment.get(HEARTBEAT, "")
        self._parent = int(parent) if parent.isdigit() else None
        self._systemd = environment.get(_NOTIFY_SOCKET, "").replace("@", "\0", 1)  # "@" begins an abstract address
        self._monotonic = monotonic
        self._due = float("-inf")
        self._message = b"READY=1\nWATCHDOG=1"

    def beat(self) -> None:
        """Report that the main loop runs."""
        now = self._monotonic()
        if now < self._due:
            return
        self._due = now + _EVERY
        with suppress(OSError):
            if self._parent is not None:
                os.eventfd_write(self._parent, 1)
        with suppress(OSError):
            if self._systemd:
                self._notify()

    def _notify(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            sender.sendto(self._message, self._systemd)
        self._message = b"WATCHDOG=1"


class HeartbeatMonitor:
    """The heartbeat of one worker, as the process that started the worker receives it at `descriptor`.

    It counts from the first beat on: the start of a worker may take long, and the probe of a file sends no beat.
    """

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._last: float | None = None
        self._checked = 0.0

    def is_silent(self, now: float) -> bool:
        """Return true if the last beat is five seconds old; `now` is in seconds of a clock that never steps.

        If the previous call is long ago, this process was stopped, and the worker perhaps with it: the time begins
        anew.
        """
        stopped = now - self._checked > SILENCE / 2
        self._checked = now
        try:
            os.eventfd_read(self.descriptor)
            self._last = now
        except BlockingIOError:
            if stopped and self._last is not None:
                self._last = now
        return self._last is not None and now - self._last > SILENCE

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.descriptor)
