"""SIGHUP to a real signature worker under traffic: new settings and signatures apply, and no event is missed."""

from __future__ import annotations

import signal

import pytest

from dnstrail.captured import Captured
from dnstrail.events import SCHED_PROCESS_EXIT
from live.groups import SIGNATURE, events, group, numbers
from live.processes import run_dir, wait_until
from live.workers import probe

TURN = 10
NEW = (
    SIGNATURE.replace('version="1"', 'version="2"')
    .replace('"),)', '"), EventSelector(name="sched_process_exit"))')
    .replace("if event.question", "if event.event_name == 'sched_process_exit' or event.question")
)


@pytest.fixture
def folder():
    with run_dir() as folder:
        yield folder


def severities(workers):
    return {finding["metadata"]["Properties"].get("Severity") for finding in workers.findings(0)}


def versions(workers):
    return {finding["metadata"]["Version"] for finding in workers.findings(0)}


def test_no_event_is_missed_during_a_reload(folder):
    """Each event leads to a finding while settings, and then a signature, change; a wrong file changes nothing."""
    config = folder.parent / "f.toml"
    config.write_text("")
    with group(folder, 1, options=["--config", str(config)]) as workers, probe(folder, subscribers=2) as publishing:
        played = 0

        def play_until(condition, what):
            def step():
                nonlocal played
                publishing.turn(*events(played, TURN))
                played += TURN
                return condition()

            workers.processes[0].send_signal(signal.SIGHUP)
            wait_until(step, what)

        wait_until(lambda: "ready" in workers.log(0), "the worker")
        config.write_text("[signature.T-1]\nseverity = 3\n")
        play_until(lambda: 3 in severities(workers), "the new severity")
        config.write_text("[signature.T-1]\nseverity = 4\n")
        play_until(lambda: "reload_refused" in workers.log(0), "the refusal")
        config.write_text("[signature.T-1]\nseverity = 3\n")
        workers.signature.write_text(NEW)
        play_until(lambda: "2" in versions(workers), "the new signature")
        found = workers.await_findings(played)
        assert {*numbers(found).values()} == {*range(played)}
        exits = SCHED_PROCESS_EXIT, Captured(1, processor=played)
        wait_until(lambda: publishing.turn(exits) and workers.count(0) > len(found), "an event that is selected now")
