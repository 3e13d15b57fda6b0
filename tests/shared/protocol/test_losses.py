"""Losses are logged once in a while, and none of them never."""

from __future__ import annotations

from structlog.testing import capture_logs

from dnstrail.protocol.loss_log import EVERY, LossLog


def test_nothing_lost_is_not_said():
    """Without a loss there is no line."""
    with capture_logs() as logs:
        LossLog().note({}, 0.0)
        LossLog().note({"ring_full": 0}, 0.0)
    assert logs == []


def test_a_first_loss_is_said_at_once():
    """The line names what was lost, by reason."""
    with capture_logs() as logs:
        LossLog().note({"ring_full": 3, "socket_full": 1}, 7.0)
    assert logs == [{"event": "events_lost", "log_level": "warning", "ring_full": 3, "socket_full": 1}]


def test_a_loss_that_could_not_be_told_is_told_again():
    """What a cache did not take is told again later, also if nothing more is lost; what it took is not."""
    told: list[dict[str, int]] = []
    answers = iter([False, True])
    log = LossLog(lambda losses: told.append(dict(losses)) or next(answers))
    with capture_logs():
        for number in range(100):
            log.note({"ring_full": 3}, number * EVERY / 10)
    assert told == [{"ring_full": 3}] * 2


def test_what_was_lost_last_is_said_at_the_end():
    """A loss that came too soon after the last line is said when the worker ends; nothing is said twice."""
    told: list[dict[str, int]] = []
    log = LossLog(lambda losses: told.append(dict(losses)) is None)
    with capture_logs() as logs:
        log.note({"ring_full": 1}, 0.0)
        log.note({"ring_full": 5000}, EVERY / 3)
        log.close({"ring_full": 5000})
        log.close({"ring_full": 5000})
    assert told == [{"ring_full": 1}, {"ring_full": 5000}]
    assert len(logs) == 2


def test_a_storm_of_losses_is_one_line_in_a_while():
    """However often more is lost, there is one line in each interval, and the last loss is in the last one."""
    log = LossLog()
    with capture_logs() as logs:
        for number in range(1, 1001):
            log.note({"ring_full": number}, number * EVERY / 300)
        log.note({"ring_full": 1000}, 5 * EVERY)
        log.note({"ring_full": 1000}, 9 * EVERY)
    assert [line["ring_full"] for line in logs] == [1, 301, 601, 901, 1000]
