"""The launcher alone, without a pipeline, in a process of its own.

Tests of dnstrail_run.command_process.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from functools import partial

import pytest

from live.namespaces import live_or_skip
from live.processes import PATIENCE

# Launches a command, sends it orders, and prints what the launcher reported.
LAUNCHES = """
import json, sys
from dnstrail_run.launcher import launch
orders, command = json.loads(sys.argv[1]), sys.argv[2:]
launcher = launch(command, None, wait_for_all=False)
launcher.wait_for_cgroup()
for order in orders:
    launcher.order(bytes([order]))
while not launcher.done and orders:
    launcher.wait()
launcher.close()
print(json.dumps([launcher.cgroup > 0, launcher.pid > 0, launcher.code, launcher.left]))
"""


@pytest.fixture(autouse=True)
def _live():
    live_or_skip()


def launched(orders: list[int], *command: str, **settings) -> tuple[list, str]:
    """Return what the launcher reported, and what the command printed."""
    run = [sys.executable, "-c", LAUNCHES, json.dumps(orders), *command]
    done = subprocess.run(run, capture_output=True, text=True, timeout=PATIENCE, check=True, **settings)
    *printed, report = done.stdout.splitlines()
    return json.loads(report), "\n".join(printed)


def test_the_command_runs_when_it_is_ordered():
    """The command starts with the order, in a cgroup of its own, and its exit code is reported."""
    report, printed = launched([0], "sh", "-c", "cat /proc/self/cgroup; exit 3")
    assert report == [True, True, 3, 0]
    assert "/dnstrail-run-" in printed


@pytest.mark.parametrize(("command", "code"), [("no-such-command", 127), ("", 127), ("/etc/passwd", 126)])
def test_a_command_that_cannot_start_has_the_code_of_a_shell(command, code):
    """A command that is not found exits with 127, and one that cannot be run with 126."""
    assert launched([0], command)[0] == [True, True, code, 0]


def test_without_an_order_nothing_runs():
    """If the other end is closed first, the command does not start."""
    assert launched([], "echo", "ran") == ([True, False, None, 0], "")


def test_a_signal_before_the_start_prevents_it():
    """A signal instead of the order ends the launcher with the code of this signal."""
    assert launched([signal.SIGTERM], "echo", "ran") == ([True, False, 143, 0], "")


def test_a_signal_after_the_order_reaches_the_command():
    """The command receives the signals that follow the order."""
    assert launched([0, signal.SIGTERM], "sleep", "60")[0] == [True, True, 143, 0]


def ignore(numbers):
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def test_the_command_has_the_signals_of_its_starter():
    """Signals are as without dnstrail: also those that Python ignores, and those that the starter ignored."""
    caught = "grep -E '^Sig(Ign|Cgt|Blk)' /proc/self/status"
    for ignored in (set(), {signal.SIGHUP, signal.SIGINT}):
        starter = partial(ignore, ignored)
        plain = subprocess.run(
            ["sh", "-c", caught], capture_output=True, text=True, check=True, preexec_fn=starter, restore_signals=True
        )
        assert launched([0], "sh", "-c", caught, preexec_fn=starter)[1] == plain.stdout.rstrip()


def test_the_command_inherits_no_descriptor():
    """The command has its three streams alone, and no pipe of the launcher."""
    assert launched([0], "sh", "-c", "ls /proc/self/fd", stdin=subprocess.DEVNULL)[1].split() == ["0", "1", "2", "3"]
