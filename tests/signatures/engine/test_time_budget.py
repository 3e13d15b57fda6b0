"""The time budget of signatures, over a clock that the signatures of the test move."""

from __future__ import annotations

import time

import pytest
from structlog.testing import capture_logs

from dnstrail.captured import Captured
from dnstrail.datasource import DataSources
from dnstrail.events import NET_PACKET_DNS, Event
from dnstrail.signature import EventSelector, Signature, SignatureMetadata
from dnstrail_signatures.engine.engine import Engine
from dnstrail_signatures.engine.time_budget import (
    BUDGET,
    LOOK_EVERY,
    MUTED_FOR,
    OFFENCES,
    WINDOW,
    ProcessorClock,
    TimeBudget,
)

EVENT = Event(NET_PACKET_DNS, Captured(1))
SLOW, FAST = 2 * BUDGET, BUDGET / 2


class FakeTime:
    """The processor time and the time of day of a test."""

    def __init__(self):
        self.processor = 0.0
        self.monotonic = 0.0

    def budget(self, seconds=BUDGET):
        return TimeBudget(seconds, lambda: self.processor, lambda: self.monotonic)


@pytest.fixture
def clock():
    """Return a clock that stands still until it is moved."""
    return FakeTime()


def spending(clock, name, seconds, selected=NET_PACKET_DNS, *, reports=False):
    """Return a signature that takes time for each event, and may report a finding within that time."""

    def on_event(self, event):
        self.received += 1
        if reports:
            self.report(event)
        clock.processor += seconds

    namespace = {
        "metadata": SignatureMetadata(f"id-{name}", "1", name, name),
        "selected_events": (EventSelector(name=selected),),
        "received": 0,
        "on_event": on_event,
    }
    return type(name, (Signature,), namespace)


def engine(clock, *classes, sink=lambda _finding: None, **budget):
    return Engine(classes, DataSources(), sink, clock.budget(**budget))


def test_a_signature_that_exceeds_its_budget_is_counted_and_named_once(clock):
    """Each event over the budget counts; the first leads to a line in the log."""
    running = engine(clock, spending(clock, "slow", SLOW), spending(clock, "fast", FAST))
    with capture_logs() as logs:
        for _ in range(3):
            running.on_event(EVENT)
    assert running.budget.exceeded == {"slow": 3}
    [line] = logs
    assert (line["event"], line["signature"], line["budget"]) == ("signature_over_budget", "slow", BUDGET)
    assert line["seconds"] == pytest.approx(SLOW)


def test_a_signature_that_exceeds_its_budget_repeatedly_is_muted_and_the_others_go_on(clock):
    """After OFFENCES events over the budget a signature receives no event for a while; what it misses is counted."""
    running = engine(clock, spending(clock, "slow", SLOW), spending(clock, "fast", FAST))
    slow, fast = running.signatures
    with capture_logs() as logs:
        for _ in range(OFFENCES + 5):
            running.on_event(EVENT)
    assert (slow.received, fast.received) == (OFFENCES, OFFENCES + 5)
    assert running.budget.missed == {"slow": 5}
    muted = [line for line in logs if line["event"] == "signature_muted"]
    assert [(line["signature"], line["seconds"], line["log_level"]) for line in muted] == [("slow", MUTED_FOR, "error")]


def test_a_muted_signature_is_heard_again(clock):
    """A mute ends by time, so that a stranger cannot end a detection; it needs as many offences again."""
    running = engine(clock, spending(clock, "slow", SLOW))
    for _ in range(OFFENCES + 1):
        running.on_event(EVENT)
    clock.monotonic += MUTED_FOR
    for _ in range(OFFENCES + 1):
        running.on_event(EVENT)
    assert running.signatures[0].received == 2 * OFFENCES
    assert running.budget.missed == {"slow": 2}


def test_rare_offences_do_not_mute(clock):
    """Offences that are further apart than the window are counted, and mute nobody."""
    running = engine(clock, spending(clock, "slow", SLOW))
    for _ in range(3 * OFFENCES):
        running.on_event(EVENT)
        clock.monotonic += 1.01 * WINDOW / (OFFENCES - 1)
    assert running.signatures[0].received == running.budget.exceeded["slow"] == 3 * OFFENCES
    assert not running.budget.missed


def test_the_time_of_another_signature_is_not_charged(clock):
    """The signatures that handle a finding spend their own time, and so does its delivery."""

    def deliver(_finding):
        clock.processor += SLOW

    first = spending(clock, "FIRST", FAST, reports=True)
    second = spending(clock, "SECOND", SLOW, "FIRST")
    running = engine(clock, first, second, sink=deliver)
    running.on_event(EVENT)
    assert running.budget.exceeded == {"SECOND": 1}


def test_an_error_does_not_hide_the_time(clock):
    """A signature that takes long and then raises has exceeded its budget."""

    def on_event(_self, _event):
        clock.processor += SLOW
        raise ValueError("on purpose")

    signature = spending(clock, "slow", 0)
    signature.on_event = on_event
    running = engine(clock, signature)
    running.on_event(EVENT)
    assert (running.budget.exceeded, running.counters["errors"]) == ({"slow": 1}, 1)


def test_the_budget_is_a_setting(clock):
    """The budget is the given one."""
    running = engine(clock, spending(clock, "slow", SLOW), seconds=2 * SLOW)
    running.on_event(EVENT)
    assert not running.budget.exceeded


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
