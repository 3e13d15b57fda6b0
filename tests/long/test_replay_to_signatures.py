"""Signature workers that are restarted: their probe replays what no member of the group handled."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from live.groups import Group, group, numbers
from live.processes import PATIENCE, run_dir, started, wait_until
from live.resolver_load import Load

SIGNATURE = """
from dnstrail import EventSelector, Signature, SignatureMetadata

class Answered(Signature):
    metadata = SignatureMetadata(id="T-1", version="1", name="Answered", event_name="ANSWERED")
    selected_events = (EventSelector(name="net_packet_dns"),)

    def on_event(self, event):
        self.report(event, number=int(event.question.name[1:].partition(".")[0]))
"""
LOOKUPS = SIGNATURE.replace(
    "self.report", "self.ctx.get_data_source('tracee', 'dns').get(event.question.name); self.report"
)
AWAY = 15  # seconds for which the cache is away: longer than an event may be late
RATE = 500  # answers a second
AS_ROOT = ("--user", "0:0") if os.geteuid() == 0 else ()  # the state of a cache is in a folder of this user


def more(resolver: Load, names: int) -> int:
    """Wait until a resolver has sent so many further names; return how many are sent."""
    until = resolver.sent + names
    wait_until(lambda: resolver.sent >= until, "further names")
    return resolver.sent


def end(resolver: Load) -> int:
    """Stop a resolver; return how many names it has sent."""
    resolver.stop.set()
    resolver.join()
    return resolver.sent


class Pipeline(NamedTuple):
    """A cache, signature workers of one group, and a resolver that reports to a live probe."""

    cache: subprocess.Popen[str]
    workers: Group
    resolver: Load


@contextmanager
def pipeline(workers: int, *options: str, signature: str = SIGNATURE) -> Iterator[Pipeline]:
    """Run a pipeline, its cache with these options."""
    with (
        run_dir() as folder,
        started("cache", "--run-dir", folder, *AS_ROOT, *options) as cache,
        group(folder, workers, signature=signature, cache=False, options=AS_ROOT) as running,
    ):
        tapped = ("--capture", f"dnstap:{folder}/dnstap.sock", "--subscribers", str(workers + 1))
        with started("probe", "--run-dir", folder, *AS_ROOT, *tapped) as probe:
            assert probe.stderr is not None
            assert any('"ready"' in line for line in iter(probe.stderr.readline, ""))
            resolver = Load(folder / "dnstap.sock", rate=RATE)
            resolver.start()
            try:
                yield Pipeline(cache, running, resolver)
            finally:
                end(resolver)


def kill(*processes: subprocess.Popen, by: signal.Signals) -> None:
    """End processes, all at once."""
    for process in processes:
        process.send_signal(by)
    for process in processes:
        process.wait(PATIENCE)


def lost_turns(workers: Group) -> int:
    """Return the number of turns that no member handled."""
    return sum(member["handover_lost_turns"] for member in workers.members().values())


@pytest.mark.parametrize(("workers", "how"), [(1, signal.SIGTERM), (2, signal.SIGKILL)])
def test_a_group_that_is_restarted_goes_on_where_it_was(workers, how):
    """After the end of all workers of a group, each event leads to one finding: the next worker handles the rest."""
    with pipeline(workers) as (_, running, resolver):
        wait_until(lambda: sum(map(running.count, range(workers))) > 200, "findings")
        kill(*running.processes, by=how)
        more(resolver, 300)
        running.start(*AS_ROOT)
        wait_until(lambda: running.count(workers), "a finding of the new worker")
        found = numbers(running.await_findings(end(resolver)))
        assert sorted(found.values()) == [*range(resolver.sent)]
        assert lost_turns(running) == 0


def test_a_group_goes_on_where_it_was_after_a_restart_of_the_cache_too(tmp_path):
    """The cache saves how far its groups were: after the end of all of them, the next worker handles the rest."""
    options = "--state", str(tmp_path / "state")
    with pipeline(2, *options) as (cache, running, resolver):
        wait_until(lambda: sum(map(running.count, range(2))) > 200, "findings")
        kill(cache, *running.processes, by=signal.SIGTERM)
        more(resolver, 300)
        with started("cache", "--run-dir", running.folder, *AS_ROOT, *options):
            running.start(*AS_ROOT)
            wait_until(lambda: running.count(2), "a finding of the new worker")
            found = numbers(running.await_findings(end(resolver)))
            assert sorted(found.values()) == [*range(resolver.sent)]
            assert lost_turns(running) == 0


def test_lookups_about_events_that_the_cache_missed_find_their_names(tmp_path):
    """The cache is away for a while under traffic: its probe replays the events, and lookups are as of their times."""
    options = "--state", str(tmp_path / "state"), "--dnscache", "size=50000"
    with pipeline(2, *options, signature=LOOKUPS) as (cache, running, resolver):
        wait_until(lambda: sum(map(running.count, range(2))) > 200, "findings")
        kill(cache, by=signal.SIGTERM)
        more(resolver, AWAY * RATE)
        with started("cache", "--run-dir", running.folder, *AS_ROOT, *options):
            found = numbers(running.await_findings(end(resolver)))
            assert sorted(found.values()) == [*range(resolver.sent)]


def test_a_new_group_begins_with_the_present():
    """A worker of a group that had no member before receives nothing of the time before it."""
    with pipeline(1) as (_, running, resolver):
        wait_until(lambda: running.count(0) > 200, "findings")
        before = max(numbers(running.findings(0)).values())
        running.start("--group", "another", *AS_ROOT)
        wait_until(lambda: running.count(1), "a finding of the new group")
        running.await_findings(end(resolver))
        assert min(numbers(running.findings(1)).values()) > before
