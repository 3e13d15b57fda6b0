"""Losses are reported once in a while, and none stays unreported."""

from __future__ import annotations

import msgpack
import pytest
from structlog.testing import capture_logs

from dnstrail.log_pause import EVERY
from dnstrail.protocol.batches import TURN
from dnstrail.protocol.losses import (
    MOST_EVENTS,
    MOST_USERS,
    MOST_WORKERS,
    MOST_WORKERS_OF_USER,
    LossReporter,
    WorkerLosses,
)


def test_nothing_lost_is_not_reported():
    """Without a loss there is no line in the log."""
    with capture_logs() as logs:
        LossReporter().note({}, 0.0)
        LossReporter().note({"ring_full": 0}, 0.0)
    assert logs == []


def test_the_first_loss_is_reported_at_once():
    """The line contains the counts by reason."""
    with capture_logs() as logs:
        LossReporter().note({"ring_full": 3, "socket_full": 1}, 7.0)
    assert logs == [{"event": "events_lost", "log_level": "warning", "ring_full": 3, "socket_full": 1}]


def test_a_report_that_was_not_accepted_is_repeated():
    """A report that the cache did not accept is sent again, although nothing more is lost; an accepted one is not."""
    sent: list[dict[str, int]] = []
    accepted = iter([False, True])
    reporter = LossReporter(lambda losses: sent.append(dict(losses)) or next(accepted))
    with capture_logs():
        for number in range(100):
            reporter.note({"ring_full": 3}, number * EVERY / 10)
    assert sent == [{"ring_full": 3}] * 2


def test_the_last_loss_is_reported_at_the_end():
    """A loss soon after a report is reported when the worker ends; nothing is reported twice."""
    sent: list[dict[str, int]] = []
    reporter = LossReporter(lambda losses: sent.append(dict(losses)) is None)
    with capture_logs() as logs:
        reporter.note({"ring_full": 1}, 0.0)
        reporter.note({"ring_full": 5000}, EVERY / 3)
        reporter.close({"ring_full": 5000})
        reporter.close({"ring_full": 5000})
    assert sent == [{"ring_full": 1}, {"ring_full": 5000}]
    assert len(logs) == 2


def test_a_storm_of_losses_is_one_line_every_ten_seconds():
    """However often the counts grow, each ten seconds have one line, and the last one contains the last loss."""
    reporter = LossReporter()
    with capture_logs() as logs:
        for number in range(1, 1001):
            reporter.note({"ring_full": number}, number / 30)
        reporter.note({"ring_full": 1000}, 50.0)
        reporter.note({"ring_full": 1000}, 90.0)
    assert [line["ring_full"] for line in logs] == [1, 301, 601, 901, 1000]


def total(reported: WorkerLosses) -> dict[str, int]:
    """Return the sum where enough was published."""
    found, beyond = reported.counted({"dns": 1 << 60, TURN: 1 << 60})
    assert beyond == 0
    return found


def test_the_latest_report_of_a_worker_counts():
    """A report counts from the start of its worker: it replaces the one before, and the workers are added up."""
    reported = WorkerLosses()
    reported.note(1, "a", {"dns": 1})
    reported.note(1, "b", {"dns": 10, TURN: 1})
    reported.note(1, "a", {"dns": 3})
    assert total(reported) == {"dns": 13, TURN: 1}


def test_the_workers_of_users_stay_apart():
    """Nobody replaces the report of another user, or of a key."""
    reported = WorkerLosses()
    for number, user in enumerate((1, 2, None, "1", "host")):
        reported.note(user, "a", {"dns": 10**number})
    assert total(reported) == {"dns": 11111}


def test_a_worker_missed_no_more_than_was_published():
    """A count beyond what was published is left out, and counted, until as much was published."""
    reported = WorkerLosses()
    reported.note(1, "a", {"dns": MOST_EVENTS, TURN: 5, "getaddrinfo": 1, "x": 0})
    reported.note(2, "a", {"dns": 7})
    assert reported.counted({"dns": 10, TURN: 5}) == ({"dns": 17, TURN: 5}, 2)
    assert reported.counted({}) == ({}, 4)


@pytest.mark.parametrize("users", [1, 3, 2 * MOST_USERS])
def test_the_counts_of_evicted_workers_stay_in_the_sum(users):
    """However many workers come and go, the table stays bounded and the sum is right."""
    reported = WorkerLosses()
    for number in range(3 * MOST_WORKERS):
        reported.note(number % users, str(number), {"dns": 1})
    tables = [reports.workers for reports in reported._users.values()]
    assert len(tables) == min(users, MOST_USERS)
    assert max(map(len, tables)) <= MOST_WORKERS_OF_USER
    assert sum(map(len, tables)) == reported._count <= MOST_WORKERS
    assert total(reported) == {"dns": 3 * MOST_WORKERS}


def test_a_user_with_many_workers_makes_room():
    """Beyond the bound of all workers, those go whose user has the most; the report of another user stays."""
    reported = WorkerLosses()
    reported.note("honest", "a", {"dns": 1})
    for number in range(2 * MOST_WORKERS):
        reported.note(number % (MOST_WORKERS // MOST_WORKERS_OF_USER), str(number), {})
    assert reported._count == MOST_WORKERS
    reported.note("honest", "a", {"dns": 3})
    assert total(reported) == {"dns": 3}


def test_endless_names_claim_no_more_than_the_workers_of_one_user():
    """A user that reports under ever new names counts like as many workers as a user can have, twice at most."""
    reported = WorkerLosses()
    for number in range(50 * MOST_WORKERS_OF_USER):
        reported.note(1, str(number), {"dns": MOST_EVENTS})
    assert reported.counted({"dns": 3})[0] == {"dns": 2 * MOST_WORKERS_OF_USER * 3}


def test_the_sum_is_bounded():
    """Whatever counts strangers report, a reply can contain the sum."""
    reported = WorkerLosses()
    for number in range(2 * MOST_WORKERS):
        reported.note(number % 100, str(number), {TURN: MOST_EVENTS})
    assert total(reported) == {TURN: MOST_EVENTS}
    assert msgpack.packb(dict(total(reported)))
