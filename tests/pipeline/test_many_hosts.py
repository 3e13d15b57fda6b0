"""Many hosts at one cache and a group of signature workers: all turns are handled, and every loss is counted."""

from __future__ import annotations

import signal
from contextlib import ExitStack

import pytest

from dnstrail.bus.ipc import lookups_address
from live.groups import SIGNATURE, Group
from live.many_hosts import many_hosts
from live.processes import PATIENCE, run_dir, started, wait_until
from live.workers import asker


@pytest.mark.parametrize("hosts", [65, 300])
@pytest.mark.timeout(600)
def test_more_than_64_hosts(hosts):
    """A group handles every event, marked lookups are complete, withheld batches are counted, and workers end."""
    with (
        run_dir() as folder,
        many_hosts(folder, hosts) as played,
        started("cache", "--run-dir", folder, *played.subscriptions),
        ExitStack() as stack,
    ):
        workers = Group(folder, stack, SIGNATURE)
        for _ in range(2):
            workers.start(*played.subscriptions)
        wait_until(lambda: played.subscribers >= 3, "the subscribers", PATIENCE)
        client = stack.enter_context(asker(lookups_address(folder)))

        def stats():
            return client.ask("stats")["data"]

        wait_until(lambda: len(client.ask("health")["data"]["turns"]) == hosts, "all hosts", PATIENCE)
        for number in range(2):
            played.answer((host, f"n{number}.host{host}.test") for host in range(hosts))
        marks = played.answer((host, f"last.host{host}.test") for host in range(hosts))
        for host, (start, turn) in marks.items():
            wait_until(lambda s=start, t=turn: client.ask("health")["data"]["turns"][s] >= t, "a turn", PATIENCE)
            reply = client.ask("get", key=f"last.host{host}.test", after=[(start, turn)])
            assert (reply["ok"], reply["complete"]) == (True, True)

        def handled():
            groups = stats()["groups"].values()
            members = [member for group in groups for member in group["members"].values()]
            return sum(member["handled"] for member in members)

        wait_until(lambda: handled() >= 3 * hosts, "all events to be handled", PATIENCE)
        assert stats()["lost"]["total"] == 0
        played.answer(((host, "withheld.test") for host in range(hosts)), lost=True)
        played.answer((host, "next.test") for host in range(hosts))
        wait_until(
            lambda: stats()["lost"]["bus"].get("net_packet_dns", 0) == hosts, "each loss to be counted", PATIENCE
        )
        for process in workers.processes:
            process.send_signal(signal.SIGTERM)
        assert [process.wait(PATIENCE) for process in workers.processes] == [0, 0]


def test_hosts_beyond_the_setting_are_refused():
    """A cache that follows ten runs of probes refuses two further ones, and follows the ten as before."""
    with (
        run_dir() as folder,
        many_hosts(folder, 12) as played,
        started("cache", "--run-dir", folder, "--probes", "10", *played.subscriptions) as process,
        ExitStack() as stack,
    ):
        wait_until(lambda: played.subscribers >= 1, "the subscribers", PATIENCE)
        client = stack.enter_context(asker(lookups_address(folder)))

        def stats():
            return client.ask("stats")["data"]

        wait_until(lambda: stats()["cache"].get("probes_refused") == 2, "two refused ones", PATIENCE)
        wait_until(lambda: len(client.ask("health")["data"]["turns"]) == 10, "the others", PATIENCE)
        marks = played.answer((host, f"host{host}.test") for host in range(12))
        followed = client.ask("health")["data"]["turns"]
        taken = {host: mark for host, mark in marks.items() if mark[0] in followed}
        assert len(taken) == len(followed) == 10
        for host, (start, turn) in taken.items():
            wait_until(lambda s=start, t=turn: client.ask("health")["data"]["turns"][s] >= t, "a turn", PATIENCE)
            reply = client.ask("get", key=f"host{host}.test", after=[(start, turn)])
            assert (reply["ok"], reply["complete"]) == (True, True)
        wait_until(lambda: stats()["lost"]["bus"] == {"refused_events": 2}, "the events of the others", PATIENCE)
        wait_until(lambda: client.ask("health")["data"]["status"] == "ok", "the ten to be heard", PATIENCE)
        process.terminate()
        log = process.communicate(timeout=PATIENCE)[1]
    assert "probe_refused" in log
    assert any(f'"host": "host{host}"' in log for host in marks.keys() - taken.keys())
