"""Questions that wait for a connection are shared by owner: a flood of one evicts its own (docs/reference/bounds.md).

Tests of dnstrail.image.binding.waiting, dnstrail.image.binding.waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from builders.binding_helpers import APP, OTHER, SHARED, SHARED6, Host, thread
from builders.dns_builders import A, by_hand, record, t
from builders.talk import back, packed, query, there
from dnstrail.captured import Flow, Process
from dnstrail.dns.header import HeaderQuestion
from dnstrail.image import Bounds, Image
from dnstrail.image.binding.waiting import MAX_OF_NAME, MAX_TOGETHER, SentQuery, WaitingQuestion, WaitingQuestions

MOST = 64
VICTIM = Process(9, "victim", thread_id=9, start_time=t(-100), cgroup_id=900)


def greedy(number: int, cgroup: int = 500, owner: int = 500) -> Process:
    """Return one of the processes of the owner with endless questions."""
    return Process(1000 + number, "greedy", thread_id=1000 + number, start_time=t(-100), cgroup_id=cgroup, owner=owner)


def asks(host: Host, at: float, number: int) -> None:
    """Ask, and never connect."""
    host.asks(at, f"g{number}", by=greedy(number))


def connects_elsewhere(host: Host, at: float, number: int) -> None:
    """Ask, and connect to an address that was not asked for: the question waits."""
    host.asks(at, f"g{number}", by=greedy(number % 4))
    host.connects(at + 0.001, OTHER, by=greedy(number % 4))


def ends(host: Host, at: float, number: int) -> None:
    """Ask, and end."""
    host.asks(at, f"g{number}", by=greedy(number))
    host.exits(at + 0.001, by=greedy(number))


def in_many_cgroups(host: Host, at: float, number: int) -> None:
    """Ask from a further cgroup of the owner."""
    host.asks(at, f"g{number}", by=greedy(number, 500 + number))


FLOODS = [asks, connects_elsewhere, ends, in_many_cgroups]


@pytest.mark.parametrize("flood", FLOODS)
def test_endless_questions_of_one_owner_evict_no_other(flood: Callable[[Host, float, int], None]) -> None:
    """While one owner asks without an end, a question of another one waits until it connects."""
    host = Host(questions=MOST)
    host.asks(0, "first.victim", by=VICTIM).asks(0.1, "second.victim", by=VICTIM)
    host.connects(0.2, OTHER, by=VICTIM)
    host.asks(0.3, "third.victim", by=VICTIM)
    for number in range(10 * MOST):
        flood(host, 1 + number / 100, number)
    assert host.image.counters["evicted_questions"] > MOST
    assert [host.opens(10 + number, by=VICTIM) for number in range(3)] == [
        "first.victim",
        "second.victim",
        "third.victim",
    ]
    assert host.image.binder.waits.held <= MOST


def test_two_floods_evict_no_third() -> None:
    """Owners are held to equal parts: two that flood together leave the part of a third one."""
    host = Host(questions=MOST)
    host.asks(0, "victim", by=VICTIM)
    for number in range(10 * MOST):
        host.asks(1 + number / 100, f"g{number}", by=greedy(number, 500 + number % 2, 500 + number % 2))
    assert host.opens(10, by=VICTIM) == "victim"


def test_an_owner_evicts_of_its_largest_party() -> None:
    """A cgroup with endless questions evicts no question of another cgroup of the same owner."""
    host = Host(questions=MOST)
    other = greedy(0, 501)
    host.asks(0, "other", by=other)
    for number in range(1, 10 * MOST):
        host.asks(1 + number / 100, f"g{number}", by=greedy(number))
    assert host.opens(10, by=other) == "other"


def test_a_host_with_many_owners_evicts_nothing_of_another_host() -> None:
    """The parts go by host first: made-up owners of one host evict no question of another host."""
    binder = Image(Bounds(questions=MOST)).binder
    binder.closed("victim", VICTIM, 1, t(0))
    for number in range(10 * MOST):
        binder.closed("hostile", greedy(number, 500 + number, 500 + number), 1, t(1))
    assert binder.waits.of(("victim", VICTIM.pid, VICTIM.start_time)) is not None
    assert binder.waits.held == MOST


def test_nothing_is_remembered_of_those_without_questions() -> None:
    """Owners, parties and processes are forgotten once none of their questions waits."""
    host = Host(questions=MOST)
    for number in range(10 * MOST):
        process = greedy(number, 500 + number, 500 + number // 8)
        host.asks(number, f"g{number}", by=process)
        host.opens(number + 0.1, by=process)
    waits = host.image.binder.waits
    assert (waits.held, waits._of, waits._owners, waits._hosts) == (0, {}, {}, {})
    assert waits._order.oldest() is None


# What one question holds


def waiting(host: Host) -> list[WaitingQuestion]:
    """Return the questions of APP that wait, as of a connection elsewhere."""
    host.connects(5, "198.51.100.1")
    identity = "", APP.pid, APP.start_time
    part = host.image.binder.waits.of(identity)
    return [] if part is None else [*part.waiting.of(identity)]


def by_socket(number: int) -> Flow:
    """Return the flow of a query by a socket."""
    return there(port=10_000 + number % 50_000, socket=10**6 + number, namespace=1, egress=True)


def answer_of(name: str, kind: int) -> bytes:
    """Return an answer to a question of any type, with an address."""
    return by_hand(query(name, kind)[12:], record(b"\xc0\x0c", A, packed(SHARED), 60))


def of_types(host: Host, number: int) -> None:
    """Query one name with a further type, by a socket of its own."""
    host.queries(number / 10_000, "a", 1000 + number, APP)


def by_threads(host: Host, number: int) -> None:
    """Query one name again from a further thread, by the same socket."""
    host.dns(number / 10_000, query("a"), by_socket(1), thread(APP, 1000 + number))


def over_tcp(host: Host, number: int) -> None:
    """Ask one name with a further type over TCP: the answer alone is noted."""
    kind, flow = 1000 + number, replace(by_socket(number), transport="tcp")
    host.dns(number / 10_000, query("a", kind), flow, APP)
    host.dns(number / 10_000, answer_of("a", kind), back(flow), APP)


@pytest.mark.parametrize("more", [of_types, by_threads, over_tcp])
def test_a_question_holds_no_more_than_it_counts(more: Callable[[Host, int], None]) -> None:
    """Beyond MAX_TOGETHER types or threads of one name another question begins, which counts."""
    host = Host()
    for number in range(MAX_TOGETHER):
        more(host, number)
    assert len(waiting(host)) == host.image.binder.waits.held == 1
    more(host, MAX_TOGETHER)
    assert len(waiting(host)) == host.image.binder.waits.held == 2
    for number in range(MAX_TOGETHER + 1, MAX_TOGETHER * (MAX_OF_NAME + 1)):
        more(host, number)
        if number % 1000 == 0:
            waiting(host)
    questions = waiting(host)
    assert len(questions) == host.image.binder.waits.held == MAX_OF_NAME
    assert max(max(len(one.types), len(one.threads), len(one.open)) for one in questions) == MAX_TOGETHER
    assert host.image.counters["evicted_questions"] > 0


def test_a_full_question_takes_no_answer_of_a_further_thread() -> None:
    """An answer to a thread beyond MAX_TOGETHER is another question's, too, whatever the probe saw of its query."""
    waits, owner = WaitingQuestions(Counter()), ("", 70, 0)
    asked = HeaderQuestion(b"", A, 1, 0, "a")
    for number in range(MAX_TOGETHER):
        waits.asked(owner, SentQuery(asked, 1 + number, 1, t(0)))
    waits.answered(owner, 99, "a", A, t(0), [(SHARED, (t(0), t(9)))])
    assert [(len(one.threads), len(one.given)) for one in waits.of(owner)] == [(MAX_TOGETHER, 0), (1, 1)]
    waits.answered(owner, 1, "a", A, t(0), [(SHARED, (t(0), t(9)))])
    assert [(len(one.threads), len(one.given)) for one in waits.of(owner)] == [(MAX_TOGETHER, 1), (1, 1)]


@pytest.mark.parametrize("refused", [True, False])
def test_a_question_holds_an_address_that_is_tried_again_once(*, refused: bool) -> None:
    """A client that connects without an end to one address leaves nothing more behind than the last attempt."""
    host = Host(connections=4).asks(0, "a", SHARED, SHARED6, ttl=600)
    assert host.connects(1, SHARED6) == "a"
    for number in range(500):
        assert host.connects(1.01 + number, SHARED) == "a"
        if refused:
            host.concludes(1.02 + number, connected=False)
    [question] = waiting(host)
    assert max(map(len, (question.types, question.threads, question.open, question.given, question.tried))) == 2
    assert (question.tried, question.weight) == ({SHARED, SHARED6}, 1)


@pytest.mark.parametrize("succeeds", range(3))
def test_the_success_of_any_attempt_spends_the_question(succeeds: int) -> None:
    """Of several connections at once to one address any may be the one that succeeds: the question waits no longer."""
    host = Host().asks(0, "a", SHARED, SHARED6)
    sockets = []
    for number in range(3):
        assert host.connects(1 + number / 1000) == "a"
        sockets.append(host.socket)
    host.concludes(1.01, sockets[succeeds])
    assert waiting(host) == []


@pytest.mark.parametrize("succeeds", range(2))
def test_the_success_of_an_attempt_spends_all_that_it_was_for(succeeds: int) -> None:
    """A name that a thread asked twice is spent twice by its first attempt, and by the second one once."""
    host = Host().asks(0, "a").asks(0.1, "a")
    sockets = []
    for number in range(2):
        assert host.connects(1 + number / 1000) == "a"
        sockets.append(host.socket)
    host.concludes(1.01, sockets[succeeds])
    assert len(waiting(host)) == succeeds
