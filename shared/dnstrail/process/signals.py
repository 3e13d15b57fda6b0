"""The end of a worker process: by SIGINT, by SIGTERM, or with the process that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from types import FrameType

_PR_SET_PDEATHSIG = 1
PARENT = "DNSTRAIL_PARENT"  # process id of a parent that its workers must not outlive


def stop_on_signals() -> threading.Event:
    """Install the signal handlers and return the stop signal of this process.

    SIGINT, SIGTERM and the death of a parent named by DNSTRAIL_PARENT set it. A second signal ends the process at once.
    """
    stop = threading.Event()

    def handle(signum: int, _frame: FrameType | None) -> None:
        if stop.is_set():  # the second signal
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        stop.set()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    if not end_with_parent():
        stop.set()
    return stop


def end_with_parent() -> bool:
    """Ask the kernel for SIGTERM when the parent dies, if DNSTRAIL_PARENT names it.

    Return False if that parent has died already. A change of the user id clears this setting (prctl(2)).
    """
    parent = os.environ.get(PARENT)
    if parent is None or not parent.isdigit():
        return True
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    return os.getppid() == int(parent)
