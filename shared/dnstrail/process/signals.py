"""The signals of a worker process: it ends on SIGINT and SIGTERM, and with the process that started it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

from dnstrail.kernel.libc import call

_PR_SET_PDEATHSIG = 1
#: variable: internal: id of a parent process whose workers must not outlive it; the parent sets it
PARENT = "DNSTRAIL_PARENT"


class WakingEvent(threading.Event):
    """An event that calls `on_set` as well when it is set: the wake-up of a bus whose wait is to end."""

    def __init__(self) -> None:
        super().__init__()
        self.on_set: Callable[[], None] = lambda: None

    def set(self) -> None:
        """Set the event."""
        super().set()
        self.on_set()


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
