"""The signals of a worker process: it ends on SIGINT and SIGTERM, and with the process that started it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from dnstrail.kernel.libc import call

_PR_SET_PDEATHSIG = 1
#: variable: internal: id of a parent process whose workers must not outlive it; the parent sets it
PARENT = "DNSTRAIL_PARENT"


class WakingEvent(threading.Event):
    """An event for the handler of a signal. It calls `on_set` as well: the wake-up of a bus whose wait is to end.

    `threading.Event.set` takes a lock that `wait` holds for moments: a handler that interrupts the waiting thread in
    such a moment would wait for ever. Here, a set event is a lock that is free.
    """

    def __init__(self) -> None:
        super().__init__()
        self.on_set: Callable[[], None] = lambda: None
        self._is_set = False
        self._closed = threading.Lock()
        self._closed.acquire()

    def is_set(self) -> bool:
        """Return whether the event is set."""
        return self._is_set

    def set(self) -> None:
        """Set the event."""
        self._is_set = True
        self._open()
        self.on_set()

    def clear(self) -> None:
        """Unset the event."""
        self._is_set = False
        self._closed.acquire(blocking=False)
        if self._is_set:  # by a handler that interrupted this
            self._open()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the event is set, or for so many seconds; return whether it is set."""
        if self._closed.acquire(timeout=-1 if timeout is None else max(timeout, 0)) and self._is_set:
            self._open()
        return self._is_set

    def _open(self) -> None:
        with suppress(RuntimeError):  # it is open
            self._closed.release()


def stop_on_signals() -> WakingEvent:
    """Return the stop signal of this process: set on SIGINT and SIGTERM, and when a parent that requires it dies."""
    stop = WakingEvent()

    def handle(signum: int, _frame: FrameType | None) -> None:
        if stop.is_set():  # the second signal ends the process at once
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        stop.set()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    if not end_with_parent():
        stop.set()
    return stop


def reload_on_signal() -> WakingEvent:
    """Return the signal to reload: set on SIGHUP."""
    reload = WakingEvent()
    signal.signal(signal.SIGHUP, lambda _signum, _frame: reload.set())
    return reload


def end_with_parent() -> bool:
    """Request SIGTERM for the death of the parent, if the parent requires it; return False if it is dead already."""
    parent = os.environ.get(PARENT)
    if parent is None or not parent.isdigit():
        return True
    call("prctl", _PR_SET_PDEATHSIG, signal.SIGTERM)
    return os.getppid() == int(parent)
