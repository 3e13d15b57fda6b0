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

    def handle(_signum: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    parent = os.environ.get(PARENT)
    if parent is not None:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(parent):  # it died before we asked
            stop.set()
    return stop
