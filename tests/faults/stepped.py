"""Runs a worker whose wall clock the program of faults sets ahead or back: FILE WORD...; no clock of the host changes.

FILE holds the step in seconds, as a double. Every Python reading of the wall clock in this process is ahead by it.
"""

from __future__ import annotations

import mmap
import runpy
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

_STEP = struct.Struct("=d")
_NANOSECONDS = 10**9


def write_step(path: Path, seconds: float) -> None:
    """Set the step of all processes that use a file."""
    if path.exists():
        with path.open("r+b") as file:
            file.write(_STEP.pack(seconds))
    else:
        path.write_bytes(_STEP.pack(seconds))
        path.chmod(0o644)


def step_clocks(path: Path) -> None:
    """Replace the wall clocks of this process."""
    with path.open("rb") as file:
        shared = mmap.mmap(file.fileno(), _STEP.size, prot=mmap.PROT_READ)
    wall, wall_ns, of_clock, of_clock_ns = time.time, time.time_ns, time.clock_gettime, time.clock_gettime_ns

    def step() -> float:
        seconds: float = _STEP.unpack(shared)[0]
        return seconds

    def stepped(read: Callable[[int], float], unit: float) -> Callable[[int], float]:
        return lambda clock: read(clock) + (step() * unit if clock == time.CLOCK_REALTIME else 0)

    time.time = lambda: wall() + step()
    time.time_ns = lambda: wall_ns() + int(step() * _NANOSECONDS)
    time.clock_gettime = stepped(of_clock, 1)
    time.clock_gettime_ns = lambda clock: int(stepped(of_clock_ns, _NANOSECONDS)(clock))


if __name__ == "__main__":
    step_clocks(Path(sys.argv[1]))
    sys.argv[1:] = sys.argv[2:]
    runpy.run_module("dnstrail_cli", run_name="__main__", alter_sys=True)
