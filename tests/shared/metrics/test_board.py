"""The board between the main loop and the thread that serves metrics."""

from __future__ import annotations

import threading

import pytest

from dnstrail.metrics.board import FRESH, Board
from dnstrail.metrics.families import gauge
from dnstrail.process.heartbeat import SILENCE
from live.workers import BOUND, FakeClock, wait_until


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def collected():
    return []


@pytest.fixture
def board(clock, collected):
    """Return a board whose main loop has run once; `collected` contains its collections."""

    def collect():
        collected.append(threading.current_thread().name)
        return [gauge("dnstrail_x", "X.", len(collected))]

    board = Board(clock.monotonic)
    board.observe(collect, lambda: "")
    board.turn()
    return board


def asked(board):
    """Ask a board in a thread while its main loop turns; return the metrics."""
    found = []
    thread = threading.Thread(target=lambda: found.append(board.metrics()))
    thread.start()

    def turned():
        board.turn()
        return not thread.is_alive()

    wait_until(turned)
    return found[0]


def test_the_main_loop_collects(board, collected):
    """Only the main loop collects, and only when metrics are wanted."""
    assert collected == []
    assert asked(board)[0].samples[0].value == 1
    assert collected == [threading.current_thread().name]


def test_a_main_loop_that_waits_is_woken(clock):
    """A scrape wakes the main loop, which may wait for longer than the scrape does."""
    woken, found = threading.Event(), []
    board = Board(clock.monotonic, woken.set)
    board.observe(list, lambda: "")
    scrape = threading.Thread(target=lambda: found.append(board.metrics()))
    board.turn()
    scrape.start()
    assert woken.wait(BOUND)
    board.turn()
    scrape.join()
    assert found == [[]]


def test_frequent_scrapes_collect_once(board, clock, collected):
    """However often metrics are wanted, the main loop collects them at most every FRESH seconds."""
    for _ in range(100):
        asked(board)
    assert len(collected) == 1
    clock.advance(FRESH + 0.1)
    asked(board)
    assert len(collected) == 2


def test_a_loop_that_stands_still_hangs(board, clock):
    """A main loop without a turn for five seconds hangs: it is not ready, and nobody waits for its metrics."""
    assert not board.hangs
    clock.advance(SILENCE + 0.1)
    assert board.hangs
    assert board.metrics() is None
    assert board.unready() == "the main loop stands still"


def test_a_loop_that_has_not_begun_hangs(clock):
    """A worker that has not begun its main loop is not healthy."""
    assert Board(clock.monotonic).hangs


def test_a_busy_loop_delays_nobody(board):
    """The thread waits for the main loop for a bounded time."""
    assert board.metrics() is None
    assert board.unready() == "the main loop is too busy to report"
