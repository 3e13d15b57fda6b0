"""The number of events that probes published: the bound of what a worker can have missed."""

from __future__ import annotations

import msgpack
import pytest

from dnstrail.events import (
    DNS_ANSWER_CONFLICT,
    DNS_TRANSACTION,
    LOSS_REASONS,
    NET_CONNECTION,
    NET_PACKET_DNS,
    NET_TCP_CONNECT,
    SCHED_PROCESS_EXEC,
)
from dnstrail.protocol.batches import TURN, Turn
from dnstrail_cache.losses import (
    MOST_EVENTS,
    MOST_USERS,
    MOST_WORKERS,
    MOST_WORKERS_OF_USER,
    Published,
    WorkerLosses,
)


def turn(number: int, start: str = "s", published: dict[str, int] | None = None, **last: int) -> Turn:
    """Return the end of a turn."""
    return Turn(start, number, last, live=True, now=0, published=published)


def most(*turns: tuple[Turn, Turn | None]) -> dict[str, int]:
    """Return the bounds above 0 after some turns, each with the one before."""
    published = Published()
    for now, earlier in turns:
        published.count(now, earlier)
    return {name: count for name, count in published.most_missed.items() if count and name not in LOSS_REASONS}


def test_a_start_counts_from_its_begin():
    """The first turn that is heard states everything that its probe has published, and later ones what they add."""
    first, second = turn(4, published={NET_PACKET_DNS: 7}), turn(6, published={NET_PACKET_DNS: 9, NET_TCP_CONNECT: 1})
    assert most((first, None)) == {NET_PACKET_DNS: 7, DNS_ANSWER_CONFLICT: 7, DNS_TRANSACTION: 7, TURN: 5}
    of_packets = {NET_PACKET_DNS: 9, DNS_ANSWER_CONFLICT: 9, DNS_TRANSACTION: 9}
    expected = {**of_packets, NET_TCP_CONNECT: 1, NET_CONNECTION: 4, TURN: 7}
    assert most((first, None), (second, first)) == expected


def test_starts_are_added_up():
    """The events of all starts count, also of those that have ended."""
    one, other = turn(0, "a", {SCHED_PROCESS_EXEC: 2}), turn(0, "b", {SCHED_PROCESS_EXEC: 3})
    assert most((one, None), (other, None)) == {SCHED_PROCESS_EXEC: 5, TURN: 2}


def test_a_probe_that_does_not_count_has_batches():
    """Where a probe states no numbers of events, its batches count, as at a subscriber that misses them."""
    assert most((turn(0, sched_process_exec=4), None)) == {SCHED_PROCESS_EXEC: 5, TURN: 1}


def test_odd_turns_never_lower_a_bound():
    """A turn that is older, counts less or names no event of ours changes nothing, and costs no memory."""
    now, odd = turn(5, published={NET_PACKET_DNS: 7}), turn(2, published={NET_PACKET_DNS: 3, "x": 1})
    assert most((now, None), (odd, now)) == most((now, None))


def test_reasons_are_bounded_by_all_events():
    """What signatures and findings lose is bounded by the events of all names; a few are believed without any event."""
    published = Published()
    published.count(turn(0, published={NET_PACKET_DNS: 2, NET_TCP_CONNECT: 1}), None)
    assert {published.most_missed[reason] for reason in LOSS_REASONS} == {(3 + 1) * 1024}


def total(reported: WorkerLosses) -> dict[str, int]:
    """Return the sum where enough was published."""
    found, beyond = reported.counted({"dns": 1 << 60, TURN: 1 << 60})
    assert beyond == 0
    return found


def test_the_latest_report_of_a_worker_counts():
    """A report counts from the start of its worker: it replaces the one before, and the workers are added up."""
    reported = WorkerLosses()
    reported.report(1, "a", {"dns": 1})
    reported.report(1, "b", {"dns": 10, TURN: 1})
    reported.report(1, "a", {"dns": 3})
    assert total(reported) == {"dns": 13, TURN: 1}


def test_the_workers_of_users_stay_apart():
    """Nobody replaces the report of another user, or of a key."""
    reported = WorkerLosses()
    for number, user in enumerate((1, 2, None, "1", "host")):
        reported.report(user, "a", {"dns": 10**number})
    assert total(reported) == {"dns": 11111}


def test_a_worker_missed_no_more_than_was_published():
    """A count beyond what was published is left out, and counted, until as much was published."""
    reported = WorkerLosses()
    reported.report(1, "a", {"dns": MOST_EVENTS, TURN: 5, "getaddrinfo": 1, "x": 0})
    reported.report(2, "a", {"dns": 7})
    assert reported.counted({"dns": 10, TURN: 5}) == ({"dns": 17, TURN: 5}, 2)
    assert reported.counted({}) == ({}, 4)


@pytest.mark.parametrize("users", [1, 3, 2 * MOST_USERS])
def test_the_counts_of_evicted_workers_stay_in_the_sum(users):
    """However many workers come and go, the table stays bounded and the sum is right."""
    reported = WorkerLosses()
    for number in range(3 * MOST_WORKERS):
        reported.report(number % users, str(number), {"dns": 1})
    tables = [reports.workers for reports in reported._users.values()]
    assert len(tables) == min(users, MOST_USERS)
    assert max(map(len, tables)) <= MOST_WORKERS_OF_USER
    assert sum(map(len, tables)) == reported._count <= MOST_WORKERS
    assert total(reported) == {"dns": 3 * MOST_WORKERS}


def test_a_user_with_many_workers_makes_room():
    """Beyond the bound of all workers, those go whose user has the most; the report of another user stays."""
    reported = WorkerLosses()
    reported.report("honest", "a", {"dns": 1})
    for number in range(2 * MOST_WORKERS):
        reported.report(number % (MOST_WORKERS // MOST_WORKERS_OF_USER), str(number), {})
    assert reported._count == MOST_WORKERS
    reported.report("honest", "a", {"dns": 3})
    assert total(reported) == {"dns": 3}


def test_endless_names_claim_no_more_than_the_workers_of_one_user():
    """A user that reports under ever new names counts like as many workers as a user can have, twice at most."""
    reported = WorkerLosses()
    for number in range(50 * MOST_WORKERS_OF_USER):
        reported.report(1, str(number), {"dns": MOST_EVENTS})
    assert reported.counted({"dns": 3})[0] == {"dns": 2 * MOST_WORKERS_OF_USER * 3}


def test_the_sum_is_bounded():
    """Whatever counts strangers report, a reply can contain the sum."""
    reported = WorkerLosses()
    for number in range(2 * MOST_WORKERS):
        reported.report(number % 100, str(number), {TURN: MOST_EVENTS})
    assert total(reported) == {TURN: MOST_EVENTS}
    assert msgpack.packb(dict(total(reported)))
