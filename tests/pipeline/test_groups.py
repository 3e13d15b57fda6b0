"""Signature workers of one group, as processes: they share the events of a probe, and none is missed or found twice."""

from __future__ import annotations

import signal
import time
from collections import Counter

import pytest

from dnstrail.bus.ipc import lookups_address
from dnstrail.protocol.members import EXPIRY
from live.groups import CLIENTS, SIGNATURE, events, group, numbers
from live.processes import run_dir, started, wait_until
from live.workers import asker, probe

TURN = 10  # events
EVENTS = 1600
SLOW = SIGNATURE.replace(
    "        if event.question",
    """        import time

        time.sleep(0.5)
        if event.question""",
)
ASKING = SIGNATURE.replace(
    "        if event.question",
    """        from dnstrail.errors import DataSourceError

        try:
            self.ctx.get_data_source("tracee", "dns").get("missing.example")
        except DataSourceError:
            pass
        if event.question""",
)


@pytest.fixture
def folder():
    with run_dir() as folder:
        yield folder


def play(publishing, first, count):
    """Publish events in turns; return after the last one."""
    for begin in range(first, first + count, TURN):
        publishing.turn(*events(begin, TURN))


def test_three_workers_share_the_clients(folder):
    """Each event is found once, the events of one client by one worker, and no worker has less than 15 %."""
    with group(folder, 3) as workers, probe(folder, live=True, subscribers=4) as publishing:
        play(publishing, 0, EVENTS)
        found = workers.await_findings(EVENTS)
        clients = [{number % CLIENTS for number in numbers(workers.findings(one)).values()} for one in range(3)]
        assert sorted(numbers(found).values()) == [*range(EVENTS)]
        assert len(found) == EVENTS
        assert sum(map(len, clients)) == CLIENTS
        assert min(map(len, clients)) >= 0.15 * CLIENTS

        def counted():
            members = workers.members().values()
            return {one["lag_events"] for one in members}, sum(one["handled"] for one in members)

        wait_until(lambda: counted() == ({0}, EVENTS), "the reports of the last turn")


@pytest.mark.parametrize("live", [True, False], ids=["live", "a file"])
def test_the_events_of_a_killed_worker_are_handled_by_others(folder, live):
    """A worker that is killed in the middle leaves no event behind: its successors handle those after its last mark.

    They have received them: nobody replays a file, and its probe may have ended.
    """
    with group(folder, 3) as workers, probe(folder, live=live, subscribers=4) as publishing:
        play(publishing, 0, EVENTS // 2)
        wait_until(lambda: workers.count(0), "a finding")
        workers.processes[0].send_signal(signal.SIGKILL)
        publishing.publisher.linger(1.0)  # nobody reads what waits for the killed one
        play(publishing, EVENTS // 2, EVENTS // 2)
        publishing.turn(ended=not live)
        found = numbers(workers.await_findings(EVENTS))
        assert sorted(found.values()) == [*range(EVENTS)]
        workers.await_members(2)


def test_workers_that_are_killed_one_after_the_other_leave_nothing_behind(folder):
    """The second one has reported turns without the part of the first one, of whose death it did not know yet."""
    with group(folder, 4) as workers, probe(folder, live=True, subscribers=5) as publishing:

        def lags():
            return sorted(one["lag_events"] for one in workers.members().values())

        play(publishing, 0, 400)
        wait_until(lambda: publishing.turn() and lags() == [0] * 4, "no lag")
        workers.processes[0].send_signal(signal.SIGKILL)
        play(publishing, 400, 400)
        reported = [0, 0, 0, 400], [0, 0, 0]
        wait_until(lambda: publishing.turn() and lags() in reported, "the reports of the others")
        workers.processes[1].send_signal(signal.SIGKILL)
        publishing.publisher.linger(1.0)  # nobody reads what waits for the killed ones
        assert sorted(numbers(workers.await_findings(800)).values()) == [*range(800)]


def test_a_worker_that_joins_takes_its_share_over(folder):
    """A fourth worker handles events of its own after some time, and no event is missed meanwhile."""
    with group(folder, 3) as workers, probe(folder, live=True, subscribers=4) as publishing:
        played = 0

        def play_more():
            nonlocal played
            play(publishing, played, TURN)
            played += TURN
            return workers.count(3)

        play_more()
        workers.start()
        wait_until(play_more, "a finding of the fourth worker")
        found = numbers(workers.await_findings(played))
        assert sorted(found.values()) == [*range(played)]


def test_a_worker_that_leaves_hands_over_at_once(folder):
    """A worker that ends reports its last turn: the others handle what comes after it, and nothing twice."""
    with group(folder, 2) as workers, probe(folder, live=True, subscribers=3) as publishing:
        play(publishing, 0, 600)
        workers.await_findings(600)
        workers.processes[0].terminate()
        wait_until(lambda: publishing.turn() and workers.processes[0].poll() is not None, "the end of the worker")
        play(publishing, 600, 600)
        found = workers.await_findings(1200)
        assert sorted(numbers(found).values()) == [*range(1200)]
        assert len(found) == 1200


def test_workers_without_a_group_handle_all_events(folder):
    """With `--group none` a worker handles every event, and is no member."""
    with group(folder, 1) as workers:
        workers.start("--group", "none")
        with probe(folder, live=True, subscribers=3) as publishing:
            play(publishing, 0, 100)
            wait_until(lambda: workers.count(0) + workers.count(1) == 200, "the findings of both")
        assert len(numbers(workers.all_findings())) == 100
        assert len(workers.members()) == 1


def test_two_groups_each_handle_all_events(folder):
    """Each group handles every event, with findings of the same ids."""
    with group(folder, 1) as workers:
        workers.start("--group", "second")
        workers.await_members(2)
        with probe(folder, live=True, subscribers=3) as publishing:
            play(publishing, 0, 100)
            wait_until(lambda: workers.count(0) + workers.count(1) == 200, "the findings of both")
        assert set(Counter(finding["findingId"] for finding in workers.all_findings()).values()) == {2}


@pytest.mark.parametrize(
    ("signature", "count"), [(SLOW, 20), (ASKING, 1)], ids=["a slow signature", "a cache that is behind"]
)
def test_a_worker_whose_events_take_long_stays_a_member(folder, signature, count):
    """A worker that needs five seconds for a turn, or whose lookup waits so long for the cache, does not expire."""
    behind = f"ipc://{folder}/behind.sock"  # the cache receives no turn but the first one
    with (
        started("cache", "--run-dir", folder, "--subscribe", behind),
        group(folder, 2, signature=signature, cache=False) as workers,
        probe(folder, live=True, address=behind),
        probe(folder, live=True, subscribers=2) as publishing,
        asker(lookups_address(folder)) as client,
    ):
        began = time.monotonic()
        publishing.turn(*events(0, count))
        found = workers.await_findings(count)
        assert time.monotonic() - began > EXPIRY
        assert len(found) == count
        assert len(workers.members()) == 2
        assert "members_expired" not in client.ask("stats")["data"]["cache"]
