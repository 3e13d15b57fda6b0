"""Losses are reported once in a while, and none stays unreported."""

from __future__ import annotations

from structlog.testing import capture_logs

from dnstrail.log_pause import EVERY
from dnstrail.protocol.losses import LossReporter


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
