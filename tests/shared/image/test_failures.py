"""Questions that brought no data."""

from __future__ import annotations

import pytest

from builders.dns_builders import t
from builders.talk import SERVERS, Talk, answer, back, query
from dnstrail.image.failures import MOST_FAILURES

NXDOMAIN, SERVFAIL, REFUSED, TRUNCATED = 0x8183, 0x8182, 0x8185, 0x8380


def response(flags: int, name: str = "a.example", id_: int = 1) -> bytes:
    """Return a response without an answer."""
    whole = answer("", name=name, id_=id_)
    return whole[:2] + flags.to_bytes(2, "big") + whole[4:]


def failing(talk: Talk, *names: str, flags: int = NXDOMAIN, **whose: int) -> None:
    """Let a party ask for names in vain."""
    for number, name in enumerate(names):
        talk.ask(0, query(name, id_=number), **whose)
        talk.hear(0, response(flags, name, number), **whose)


@pytest.mark.parametrize(
    ("flags", "outcome"),
    [(NXDOMAIN, "NXDOMAIN"), (SERVFAIL, "failed"), (REFUSED, "refused"), (0x8180, "no data"), (0x8184, "rcode 4")],
)
def test_a_question_that_brought_no_data(flags, outcome):
    """It states its outcome, type and time, who asked, and who answered."""
    talk = Talk()
    failing(talk, "a.example", flags=flags, pid=7, cgroup=5)
    failure = talk.image.failed("A.example.")
    shown = failure.shown(1.5)
    assert (shown.outcome, shown.type, shown.time, failure.stamp) == (outcome, 1, 1.5, t(0))
    assert (shown.client, shown.server, shown.process_id) == ("10.0.0.2", "10.0.0.53", 7)


@pytest.mark.parametrize("flags", [TRUNCATED, 0x8180])
def test_a_question_that_is_asked_again_or_was_answered(flags):
    """A truncated response, and one with data, are no failures."""
    talk = Talk()
    talk.ask(0)
    talk.hear(0, answer() if flags == 0x8180 else response(flags))
    assert talk.image.failed("a.example") is None


def test_a_response_to_no_question_is_no_failure():
    """A stranger who sends NXDOMAIN states nothing, nor does the copy of a response at another socket."""
    talk = Talk()
    talk.hear(0, response(NXDOMAIN))
    assert talk.image.failed("a.example") is None
    talk.ask(0, flow=SERVERS, pid=80)
    talk.ask(0, pid=70)
    talk.hear(0, response(NXDOMAIN), pid=70)
    talk.hear(0, response(NXDOMAIN), back(SERVERS), pid=80)
    assert talk.image.failed("a.example").shown(0).process_id == 70


def test_a_failure_after_the_time_of_the_lookup():
    """As of a time before the question nothing is known of it."""
    talk = Talk()
    failing(talk, "a.example")
    assert talk.image.failed("a.example", at=t(-1)) is None
    assert talk.image.failed("a.example", at=t(0)) is not None


def test_the_reverse_name_of_an_address():
    """A reverse question that failed is found by its address."""
    talk = Talk()
    failing(talk, "1.2.0.192.in-addr.arpa")
    assert talk.image.failed("192.0.2.1") is not None


def test_endless_failures_of_one_owner_leave_those_of_others():
    """A program that asks for random names without end keeps half of the table, and the memory stays bounded."""
    talk = Talk()
    earlier = [f"early{number}.example" for number in range(100)]
    failing(talk, *earlier, cgroup=1)
    for first in range(0, 3 * MOST_FAILURES, 1000):
        failing(talk, *(f"n{number}.example" for number in range(first, first + 1000)), cgroup=100 + first, owner=99)
    assert all(talk.image.failed(name) for name in earlier)
    assert len(talk.image.failures._last) == MOST_FAILURES
    assert talk.image.counters["evicted_failures"] > 2 * MOST_FAILURES
    for owner in range(MOST_FAILURES):
        failing(talk, f"of{owner}.example", cgroup=1000 + owner)
    assert len(talk.image.failures._last) == MOST_FAILURES
    assert not any(talk.image.failed(name) for name in earlier)
    assert len(talk.image.failures._owners) == MOST_FAILURES
