"""Uses of answers: the questions that led to connections, within bounds."""

from __future__ import annotations

from collections import Counter

import pytest

from dnstrail.image.trails.connection_history import MAX_NAMES, MAX_PORTS, MAX_USES, SOON, ConnectionHistory

ADDRESS = "1.1.1.1"


@pytest.fixture
def uses():
    return ConnectionHistory(Counter())


def use(uses, name="a", actor=7):
    return uses.of(actor, ADDRESS)[name]


def test_answers_are_counted_for_each_actor(uses):
    """Answers are counted for each actor and address apart."""
    uses.note_answer([7, "c1"], ADDRESS, "a", 10.0)
    uses.note_answer([7], ADDRESS, "a", 11.0)
    assert (use(uses).answers, use(uses, actor="c1").answers) == (2, 1)
    assert not uses.of(8, ADDRESS)
    assert not uses.of(7, "1.1.1.2")


def test_late_answer_does_not_make_a_use_older(uses):
    """A late answer counts, and the last answer stays the last."""
    uses.note_answer([7], ADDRESS, "a", 10.0)
    uses.note_answer([7], ADDRESS, "a", 5.0)
    assert (use(uses).answered, use(uses).answers) == (10.0, 2)


@pytest.mark.parametrize(("after", "counted"), [(0, 1), (SOON, 1), (SOON + 0.001, 0), (-0.001, 0)])
def test_connection_counts_soon_after_an_answer(uses, after, counted):
    """A connection counts if it comes at most one second after the answer, and never before it."""
    uses.note_answer([7], ADDRESS, "a", 10.0)
    uses.note_connection([7], ADDRESS, 443, 10.0 + after)
    assert use(uses).rate(443) == counted


def test_connection_counts_for_the_question_answered_last(uses):
    """A connection counts for the question that was answered last, even if it was first answered earlier."""
    for name in ("a", "b", "a"):
        uses.note_answer([7], ADDRESS, name, 10.0)
    uses.note_connection([7], ADDRESS, 443, 10.1)
    assert (use(uses, "a").rate(443), use(uses, "b").rate(443)) == (0.5, 0)


def test_rate_is_by_port(uses):
    """The rate is the number of connections to a port for each answer; without a port it is 0."""
    uses.note_answer([7], ADDRESS, "a", 10.0)
    for port in (443, 443, 80):
        uses.note_connection([7], ADDRESS, port, 10.1)
    assert [use(uses).rate(port) for port in (443, 80, 22, None)] == [2, 1, 0, 0]


def test_connection_of_somebody_else_does_not_count(uses):
    """A connection of an actor, or to an address, that no answer named does not count."""
    uses.note_answer([7], ADDRESS, "a", 10.0)
    uses.note_connection([8, "c1"], ADDRESS, 443, 10.1)
    uses.note_connection([7], "1.1.1.2", 443, 10.1)
    assert use(uses).rate(443) == 0


def test_ports_of_a_use_are_bounded(uses):
    """Beyond the bound on ports, connections to new ports are not counted; connections to known ports are."""
    uses.note_answer([7], ADDRESS, "a", 10.0)
    for port in range(1, 3 * MAX_PORTS):
        uses.note_connection([7], ADDRESS, port, 10.0)
    uses.note_connection([7], ADDRESS, 1, 10.0)
    assert len(use(uses).led) == MAX_PORTS
    assert use(uses).rate(1) == 2


def test_questions_of_a_pair_are_bounded(uses):
    """Beyond the bound on questions of one actor and address, the oldest is evicted and counted."""
    for number in range(MAX_NAMES + 2):
        uses.note_answer([7], ADDRESS, f"n{number}", float(number))
    assert list(uses.of(7, ADDRESS)) == [f"n{number}" for number in range(2, MAX_NAMES + 2)]
    assert (len(uses), uses.counters["evicted_uses"]) == (MAX_NAMES, 2)


def test_uses_are_bounded(uses):
    """Beyond the bound on uses, the least recently answered actor and address is evicted and counted."""
    uses.note_answer([7], ADDRESS, "a", 0.0)
    uses.note_answer([8], ADDRESS, "a", 0.0)
    for number in range(MAX_USES - 1):
        uses.note_answer([9], f"address {number}", "a", 1.0)
        uses.note_answer([7], ADDRESS, "a", 1.0)
    assert (len(uses), uses.counters["evicted_uses"]) == (MAX_USES, 1)
    assert (len(uses.of(7, ADDRESS)), len(uses.of(8, ADDRESS))) == (1, 0)
