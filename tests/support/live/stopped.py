"""Processes that stand still for a while."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import F_GETPIPE_SZ, fcntl, ioctl
from pathlib import Path
from termios import FIONREAD

from live.processes import text_of, wait_until


@contextmanager
def frozen(*processes: int) -> Iterator[None]:
    """Stop processes for the time of the block, which begins once all their threads stand still."""
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        for process in processes:
            wait_until(lambda process=process: _stands_still(process), "the stop")
        yield
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


def read_over_a_stop(process: subprocess.Popen[bytes]) -> bytes:
    """Return all that a process writes to a pipe, though it is stopped while the pipe is full."""
    assert process.stdout is not None
    pipe = process.stdout
    room = fcntl(pipe, F_GETPIPE_SZ)
    wait_until(lambda: int.from_bytes(ioctl(pipe, FIONREAD, bytes(4)), sys.byteorder) == room, "a full pipe")
    with frozen(process.pid):
        pass
    return pipe.read()


def _stands_still(process: int) -> bool:
    threads = Path(f"/proc/{process}/task").glob("*/status")
    return all("\nState:\tT" in text_of(status) for status in threads)
