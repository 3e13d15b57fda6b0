"""Programs that are loaded while signals arrive: the kernel gives up a load that a signal interrupts.

Tests of dnstrail.kernel.bpf.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dnstrail.kernel.bpf import ProgramType, load_program
from live.namespaces import live_or_skip

LONG = b"\xb7\0\0\0\0\0\0\0" * 20_000 + b"\x95\0\0\0\0\0\0\0"  # r0 = 0; exit: verified for some ms
BETWEEN = 0.0002  # seconds


@contextmanager
def signals(most: int) -> Iterator[list[int]]:
    """Let signals arrive within the block, until so many were handled; yield those that were."""
    live_or_skip()
    handled: list[int] = []

    def handle(number: int, _: object) -> None:
        handled.append(number)
        if len(handled) == most:
            signal.setitimer(signal.ITIMER_REAL, 0)

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, BETWEEN, BETWEEN)
    try:
        yield handled
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_program_is_loaded_once_signals_cease() -> None:
    """A load that signals interrupt is made again."""
    with signals(5) as handled:
        os.close(load_program("long", LONG, ProgramType.CGROUP_SKB))
    assert handled


def test_signals_that_never_cease_end_the_load() -> None:
    """After some attempts the load fails."""
    with signals(1 << 30), pytest.raises(OSError, match="temporarily unavailable"):
        load_program("long", LONG, ProgramType.CGROUP_SKB)
