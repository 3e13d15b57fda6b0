"""How a worker process ends: on SIGINT and SIGTERM, and with the process that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from types import FrameType

_PR_SET_PDEATHSIG = 1
PARENT = "DNSTRAIL_PARENT"  # set by a parent whose workers shall not outlive it: its process id


def stop_on_signals() -> threading.Event:
    """The stop signal of this process: set on SIGINT and SIGTERM, and when a parent that asked for it dies."""
    stop = threading.Event()

    def handle(signum: int, _frame: FrameType | None) -> None:
        if stop.is_set():  # asked twice: at once
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        stop.set()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    if not end_with_parent():
        stop.set()
    return stop


def end_with_parent() -> bool:
    """Ask for SIGTERM when the parent dies, if it wants that; False if it has died already."""
    parent = os.environ.get(PARENT)
    if parent is None or not parent.isdigit():
        return True
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    return os.getppid() == int(parent)
