"""Copies of one response at several sockets, and second answers that conflict with the first."""

from __future__ import annotations

import pytest

from builders.talk import ADDRESSED, OWN, SERVERS, Talk, answer, back, there
from dnstrail.image import FeedOutcome
from dnstrail.image.admission import Copies
from dnstrail.image.queries import COPY

PROXY = there(socket=11, namespace=2)
FIRST, SECOND = answer("192.0.2.1"), answer("192.0.2.2")


def count_of(talk: Talk) -> int:
    """Return the number of answers that the image holds of a.example."""
    found = talk.image.trails("a.example")
    return 0 if found is None else sum(asker.count for trail in found.trails for asker in trail.asked)


def test_copies_of_a_response():
    """A copy of a response within 100 ms is no second answer; after that the same bytes are a response of their own."""
    talk = Talk("accept", live=False)
    talk.ask(0, flow=ADDRESSED)
    admitted = [talk.hear(after, FIRST, back(ADDRESSED)).admitted for after in (1, 1.05, 1.1, 1.2)]
    assert admitted == [True, False, False, True]
    assert talk.counted("matched", "copies", "unmatched_repeated") == [1, 2, 1]


def test_copies_at_several_sockets_are_one_answer():
    """A response that passes several sockets of one host is one answer, and ends the wait at each of them."""
    talk = Talk()
    flows = (OWN, SERVERS, PROXY)
    for flow in flows:
        talk.ask(0, flow=flow)
    outcomes = [talk.hear(0.01 + n / 1000, FIRST, back(flow)) for n, flow in enumerate(reversed(flows))]
    assert [outcome.admitted for outcome in outcomes] == [True, False, False]
    assert (talk.waiting, count_of(talk)) == (0, 1)
    assert not talk.hear(0.5, SECOND, back(OWN)).admitted


def test_a_copy_at_the_same_socket_ends_no_further_wait():
    """A query that was sent twice admits two responses, also if the first one is captured twice at one socket."""
    talk = Talk("reject")
    talk.ask(0)
    talk.ask(0.5)
    heard = [talk.hear(after, payload) for after, payload in ((0.6, FIRST), (0.65, FIRST), (0.7, SECOND))]
    assert [outcome.admitted for outcome in heard] == [True, False, True]


def test_the_first_copy_that_is_admitted_is_kept():
    """If the query of the first copy was not captured, the next copy is kept."""
    talk = Talk("reject")
    talk.ask(0)
    assert [talk.hear(0.01, FIRST, back(flow)).admitted for flow in (SERVERS, OWN, SERVERS)] == [False, True, False]
    assert count_of(talk) == 1


def test_copies_for_another_client_are_answers():
    """The same bytes to another client address or port are another answer."""
    talk = Talk()
    flows = [there(port=40000 + n, socket=20 + n, namespace=1, egress=True) for n in range(2)]
    for flow in flows:
        talk.ask(0, flow=flow)
    assert [talk.hear(0.01, FIRST, back(flow)).admitted for flow in flows] == [True, True]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (["192.0.2.1"], ["192.0.2.2"], True),
        (["192.0.2.1", "192.0.2.2"], ["192.0.2.2", "192.0.2.3"], False),
        (["192.0.2.1"], [""], False),
        ([""], ["192.0.2.1"], False),
    ],
)
@pytest.mark.parametrize("unmatched", ["accept", "reject"])
def test_conflict(unmatched, first, second, expected):
    """A second response conflicts if it shares no target with the first, whether admitted or not."""
    talk = Talk(unmatched, live=False)
    talk.ask(-40, flow=ADDRESSED)
    talk.hear(-40, answer("198.51.100.1"), back(ADDRESSED))  # the answer of an older query
    talk.ask(0, flow=ADDRESSED)
    outcomes = [
        talk.hear(1 + n / 100, answer(*addresses, ttl=n), back(ADDRESSED))
        for n, addresses in enumerate((first, second))
    ]
    assert [outcome.conflict for outcome in outcomes] == [False, expected]
    assert talk.image.counters["answer_conflict"] == int(expected)


def test_a_conflict_at_one_socket_alone():
    """A second answer at the client's socket conflicts with the first, which was a copy there."""
    talk = Talk()
    talk.ask(0, flow=OWN)
    talk.ask(0, flow=SERVERS)
    assert talk.hear(0.01, FIRST, back(SERVERS)).admitted
    assert talk.hear(0.011, FIRST, back(OWN)) == FeedOutcome()
    assert talk.hear(0.02, SECOND, back(OWN)) == FeedOutcome(admitted=False, conflict=True)


def test_a_forged_answer_before_the_copy_conflicts():
    """A forged answer that takes the wait at the client's socket conflicts with the real one behind it."""
    talk = Talk()
    talk.ask(0, flow=OWN)
    assert talk.hear(0.01, SECOND, back(OWN)) == FeedOutcome(admitted=True)
    assert talk.hear(0.02, FIRST, back(OWN)) == FeedOutcome(admitted=False, conflict=True)


def test_no_conflict():
    """Responses to two sightings of a query never conflict, and neither does one without a query, or a copy."""
    talk = Talk("accept", live=False)
    talk.ask(0, flow=ADDRESSED)
    talk.ask(5, flow=ADDRESSED)
    assert not any(talk.hear(6, payload, back(ADDRESSED)).conflict for payload in (FIRST, SECOND, FIRST, SECOND))
    other = there("10.0.0.9")
    assert not any(talk.hear(6, payload, back(other)).conflict for payload in (FIRST, SECOND))


def test_a_response_is_remembered_for_its_window_at_least():
    """A copy within the window is known as one; a later one is a new response."""
    copies = Copies()
    first, _ = copies.find_or_add(1, COPY)
    copies.find_or_add(2, 2 * COPY)
    assert copies.find_or_add(1, 2 * COPY) == (first, False)
    assert copies.find_or_add(1, 2 * COPY + 1)[1]
    copies.find_or_add(3, 5 * COPY)
    copies.find_or_add(4, 7 * COPY)
    assert len(copies) == 2


@pytest.mark.parametrize("spacing", [0, COPY // 2500])
def test_responses_are_dropped_in_small_steps(spacing):
    """A new response drops two old ones at most, whether a half is full or its window is over; memory stays bounded."""
    copies, held, most = Copies(), 0, 0
    for number in range(150_000):
        copies.find_or_add(number, number * spacing)
        before, held = held, len(copies) + sum(map(len, copies._held._replaced))
        most = max(most, before + 1 - held)
    assert most == 2
    assert held < 110_000
