"""Questions that wait for a connection are shared by owner: a flood of one evicts its own (docs/reference/bounds.md).

Tests of dnstrail.image.binding.waiting, dnstrail.image.binding.waiting.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from builders.binding_helpers import OTHER, Host
from builders.dns_builders import t
from dnstrail.captured import Process
from dnstrail.image import Bounds, Image

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
