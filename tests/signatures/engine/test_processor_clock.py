"""The processor clock: it asks the kernel rarely, and a wait counts as next to nothing."""

from __future__ import annotations

import time

import pytest

from dnstrail_signatures.engine.processor_clock import LOOK_EVERY, ProcessorClock
from dnstrail_signatures.engine.time_budget import BUDGET, TimeBudget


def test_the_kernel_is_asked_once_in_a_while():
    """Between two looks wall time passes for processor time; the next look corrects it."""
    looks, now = [5.0, 5.1], [100.0]
    clock = ProcessorClock(lambda: looks.pop(0), lambda: now[0])
    assert clock.seconds() == 5.0
    now[0] += LOOK_EVERY / 2
    assert clock.seconds() == pytest.approx(5.0 + LOOK_EVERY / 2)
    now[0] += 20.0
    assert clock.seconds() == pytest.approx(5.1)
    assert not looks


def test_the_clock_never_steps_back():
    """It was ahead of the processor time when the thread waited: it stands still until this has caught up."""
    looks, now = [5.0, 5.0002], [100.0]
    clock = ProcessorClock(lambda: looks.pop(0), lambda: now[0])
    clock.seconds()
    now[0] += 0.9 * LOOK_EVERY
    ahead = clock.seconds()
    now[0] += LOOK_EVERY
    assert clock.seconds() == ahead
    now[0] += 0.9 * LOOK_EVERY
    assert clock.seconds() > ahead


def test_a_signature_that_waits_does_not_exceed_its_budget():
    """The time of a sleep is no processor time; that of a loop is."""
    budget = TimeBudget()
    budget.begin()
    time.sleep(2 * BUDGET)
    budget.charge("waits")
    busy = time.thread_time() + 1.5 * BUDGET
    while time.thread_time() < busy:
        pass
    budget.charge("works")
    assert budget.exceeded == {"works": 1}
    assert budget.spent["waits"] < BUDGET
    assert budget.spent["works"] > BUDGET
