"""An output never delays the worker, and counts what it loses.

Tests of dnstrail_findings.backlog.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from builders.findings import finding_of
from builders.writers import Numbered, Script
from dnstrail_findings import backlog, output
from dnstrail_findings.backlog import LineQueue
from dnstrail_findings.output import EndedError, Output, RefusedError
from live.workers import wait_until

FINDING = finding_of()


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def started(script: Script) -> Iterator[Output]:
    made = Output("test", Numbered(), script, rest=0.001)
    made.start()
    yield made
    script.goes_on.set()
    made.close()


def add(made: Output, count: int) -> None:
    for _ in range(count):
        made.add(FINDING)


def test_findings_are_written_in_order(script, started) -> None:
    """All findings are written, in their order."""
    add(started, 5)
    wait_until(lambda: started.counters["written"] == 5, "all lines")
    assert script.written == [b"1", b"2", b"3", b"4", b"5"]
    assert (started.lost, started.waiting) == (0, 0)


def test_a_failed_batch_is_tried_again(script, started) -> None:
    """A failure keeps the lines: the same batch is tried until it is written."""
    script.fault = OSError("no")
    add(started, 3)
    wait_until(lambda: started.counters["failures"] >= 3, "three failures")
    assert script.written == []
    script.fault = None
    wait_until(lambda: started.counters["written"] == 3, "all lines")
    assert script.written == [b"1", b"2", b"3"]


def test_a_refused_batch_is_lost_alone(script, started) -> None:
    """What the receiver refuses for good is counted, and the next batch follows."""
    script.fault = RefusedError("bad")
    add(started, 1)
    wait_until(lambda: started.counters["refused"] == 1, "the refusal")
    script.fault = None
    add(started, 1)
    wait_until(lambda: started.counters["written"] == 1, "the next line")
    assert started.lost == 1


def test_a_writer_that_hangs_delays_nobody(script, started, monkeypatch) -> None:
    """While a writer hangs, findings beyond the queue are counted as lost, and `add` returns at once."""
    monkeypatch.setattr(backlog, "MOST_LINES", 10)
    script.goes_on.clear()
    add(started, 1)
    wait_until(lambda: script.tries == 1, "the writer to hang")
    add(started, 25)
    assert (started.counters["queue_full"], started.lost) == (15, 15)


def test_a_queue_is_bounded_in_bytes(monkeypatch) -> None:
    """A line that exceeds the bytes of the queue is refused, and a shorter one is not."""
    monkeypatch.setattr(backlog, "MOST_BYTES", 10)
    queue = LineQueue()
    assert [queue.add(b"x" * size) for size in (8, 3, 2)] == [True, False, True]
    assert queue.take(5, 100, 0) == [b"x" * 8, b"xx"]
    assert queue.add(b"x" * 10)


def test_a_queue_is_half_full_by_lines_or_bytes(monkeypatch) -> None:
    """A queue is half full beyond half of its lines, or of its bytes."""
    monkeypatch.setattr(backlog, "MOST_BYTES", 10)
    monkeypatch.setattr(backlog, "MOST_LINES", 4)
    queue = LineQueue()
    found = []
    for line in (b"xxxxx", b"x"):
        assert queue.add(line)
        found.append(queue.is_half_full)
    assert queue.take(2, 10, 0)
    for _ in range(3):
        assert queue.add(b"x")
        found.append(queue.is_half_full)
    assert found == [False, True, False, False, True]


def test_a_batch_is_bounded_in_bytes() -> None:
    """A batch ends before the line that exceeds its bytes, but has at least one line."""
    queue = LineQueue()
    for size in (4, 4, 4, 50):
        queue.add(b"x" * size)
    assert [len(queue.take(10, 9, 0)) for _ in range(4)] == [2, 1, 1, 0]


def test_a_line_that_is_too_long_is_counted(script) -> None:
    """A line beyond the bound is lost, and never reaches the queue."""
    made = Output("test", Numbered(output.MAX_LINE), script)
    add(made, 1)
    assert (made.counters["too_long"], made.waiting) == (1, 0)


def test_a_finding_that_cannot_be_encoded_is_counted(script) -> None:
    """A fault of a format costs one finding, and not the worker."""

    def fail(_finding: object) -> bytes:
        raise KeyError("x")

    made = Output("test", fail, script)
    add(made, 2)
    assert (made.counters["unformatted"], made.lost) == (2, 2)


def test_what_waits_is_written_at_the_end(script) -> None:
    """A stopped output writes what waits, and closes its writer."""
    made = Output("test", Numbered(), script)
    script.goes_on.clear()
    made.start()
    add(made, 5)
    script.goes_on.set()
    made.close()
    assert (len(script.written), made.lost, script.closed) == (5, 0, True)


def test_what_cannot_be_written_at_the_end_is_counted(script) -> None:
    """A receiver that is away at the end costs one attempt, and its findings are counted."""
    script.fault = OSError("away")
    made = Output("test", Numbered(), script)
    made.start()
    add(made, 5)
    wait_until(lambda: made.counters["failures"], "a failure")
    made.close()
    assert (made.counters["unsent"], made.lost) == (5, 5)


def test_a_writer_that_hangs_does_not_hold_the_end(script) -> None:
    """The end does not wait for a writer that hangs, and its findings are counted."""
    script.goes_on.clear()
    made = Output("test", Numbered(), script)
    made.start()
    add(made, 3)
    wait_until(lambda: script.tries == 1, "the writer to hang")
    made.close(0.05)
    assert made.lost == 3
    script.goes_on.set()


def test_a_receiver_that_left_ends_the_output(script, started) -> None:
    """An output whose receiver wants no more says so, and later findings are refused."""
    script.fault = EndedError()
    add(started, 1)
    wait_until(lambda: started.ended, "the end")
    add(started, 2)
    assert started.counters["refused"] == 2


def test_a_fault_of_a_writer_is_not_silent(script, started) -> None:
    """An error that no writer should raise is kept for the main loop."""
    script.fault = ValueError("a fault")
    add(started, 1)
    wait_until(lambda: started.error is not None, "the error")
    assert str(started.error) == "a fault"


def test_the_rest_after_a_failure_doubles(script) -> None:
    """Failures in a row rest twice as long each time, up to the longest rest."""
    now = [0.0]
    made = Output("test", Numbered(), script, monotonic=lambda: now[0], rest=1.0)
    rests = []
    for _ in range(8):
        made._fail(OSError("no"))
        rests.append(made._due - now[0])
    assert rests == [1, 2, 4, 8, 16, 32, 60, 60]
    made._recover()
    assert made._due < now[0]
