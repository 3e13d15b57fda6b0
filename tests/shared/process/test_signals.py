"""The stop signal of a worker: it is set at whatever instruction the signal arrives."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from dnstrail.process.signals import WakingEvent

# Sends a signal before one instruction of a call after the other. The alarm ends a process that hangs.
EACH_INSTRUCTION = """
import signal, sys, threading
from dnstrail.process import signals

def traced(frame, kind, _given):
    global left
    if frame.f_code.co_filename not in (signals.__file__, threading.__file__) or frame.f_code.co_name == "set":
        return None
    frame.f_trace_opcodes = True
    if kind == "opcode":
        left -= 1
        if left == 0:
            signal.raise_signal(sent)
    return traced

signal.alarm(20)
number, reached, is_wait = 0, True, sys.argv[1] == "wait"
while reached:
    number, left = number + 1, number + 1
    if is_wait:
        event, sent = signals.stop_on_signals(), signal.SIGTERM
        call = lambda: event.wait(0)
    else:
        event, sent = signals.reload_on_signal(), signal.SIGHUP
        event.set()
        call = event.clear
    sys.settrace(traced)
    call()
    sys.settrace(None)
    reached = left <= 0
    is_set = event.is_set()
    assert event.wait(None if is_set else 0) == is_set, number
    assert is_set == reached or reached and not is_wait, number  # a signal before `clear` unsets is lost with it
print(number)
"""


@pytest.mark.parametrize("call", ["wait", "clear"])
def test_a_signal_at_any_instruction_sets_the_event(call: str) -> None:
    """The handler needs no lock that the thread which it interrupts may hold, and an event that is set ends a wait."""
    command = (sys.executable, "-c", EACH_INSTRUCTION, call)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert int(done.stdout) > 5


def test_an_event_may_be_unset_and_set_again() -> None:
    """As `threading.Event`; waits of other threads end too, and `on_set` is called each time."""
    event, calls = WakingEvent(), []
    event.on_set = lambda: calls.append(event.is_set())
    for number in (1, 2):
        assert not event.wait(-1)
        waiting = [threading.Thread(target=event.wait) for _ in range(3)]
        for thread in waiting:
            thread.start()
        event.set()
        event.set()
        for thread in waiting:
            thread.join(10)
        assert not any(map(threading.Thread.is_alive, waiting))
        assert (event.wait(), event.wait(0), calls) == (True, True, [True] * 2 * number)
        event.clear()
        assert not event.wait(0.001)
