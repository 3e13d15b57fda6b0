"""A capture file: into an image, and a lookup by the command line beside tcpdump, which only reads the file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from baselines import GO_ALL, compared, parse_cost
from figures import Figure
from live_events import of_capture, questions

_RUNS = 5


def measure(capture: str) -> Iterator[Figure]:
    """Measure the CPU time of `dnstrail get --capture`, start included, and of the start alone."""
    payloads, name = [event.payload for event in of_capture(capture)], questions(capture)[-1]
    ours = [sys.executable, "-m", "dnstrail_cli", "get"]
    got, started = _cpu(*ours, "--capture", capture, name), _cpu(*ours, "--help")
    yield Figure("get --capture: CPU, start included", got * 1000, "ms")
    message = (got - started) / len(payloads) * 1e6
    yield from compared("get --capture: a message, without the start", message, parse_cost(payloads), GO_ALL)
    if not shutil.which("tcpdump"):
        yield Figure("beside tcpdump: it is not installed", None)
    elif not Path(capture).exists():
        yield Figure("beside tcpdump: DNSTRAIL_CORPUS names no captures", None)
    else:
        read = _cpu("tcpdump", "-nr", capture)
        yield Figure("tcpdump -nr: CPU", read * 1000, "ms")
        yield Figure("get --capture, against tcpdump -nr", got / read, "times")


def _cpu(*command: str) -> float:
    """Return the median CPU time of a command in seconds."""
    return sorted(_once(command) for _ in range(_RUNS))[_RUNS // 2]


def _once(command: tuple[str, ...]) -> float:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return used.ru_utime + used.ru_stime
