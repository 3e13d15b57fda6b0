"""Units of systemd on the real kernel: processes in a tree of cgroups as systemd makes it, also below a user's manager.

Tests of dnstrail.kernel.systemd_units, dnstrail_probe.host.containers.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from dnstrail.events import SCHED_PROCESS_EXEC
from live.ebpf_source import Watching, cgroup, inside, watching
from live.namespaces import live_or_skip

pytestmark = pytest.mark.filterwarnings("ignore:not a bytes object:DeprecationWarning")  # bcc's own
USER = 60_543  # no other process of this host has it
SLICE = "dnstrailtest.slice"
MANAGER = f"{SLICE}/user@{USER}.service"
CONTAINER = f"{SLICE}/docker-{'c3' * 32}.scope"


@contextmanager
def tree() -> Iterator[dict[str, Path]]:
    """Make the cgroups of a slice, with a service, a manager of a user, and what the user makes below it."""
    live_or_skip("setpriv")
    with ExitStack() as stack:
        made = {
            path: stack.enter_context(cgroup(path))
            for path in (SLICE, f"{SLICE}/web.service", f"{SLICE}/web.service/part", MANAGER, CONTAINER)
        }
        manager = made[MANAGER]
        subprocess.run(["chown", str(USER), manager], check=True)
        ways = ("system.slice", "system.slice/ssh.service"), ("app.slice", "app.slice/own.service"), ("any name",)
        for path in (path for way in ways for path in way):
            subprocess.run(["setpriv", f"--reuid={USER}", "--clear-groups", "mkdir", manager / path], check=True)
            stack.callback((manager / path).rmdir)
            made[f"{MANAGER}/{path}"] = manager / path
        yield made


def run_of_true(seen: Watching, pid: int) -> tuple[str, str] | None:
    """Return unit and slice of a process when it has begun to run the program `true`; None before."""
    ran = [one.process for one in seen.of(pid, SCHED_PROCESS_EXEC)]
    return next(((process.unit, process.slice) for process in ran if process and process.name == "true"), None)


EXPECTED = {
    f"{SLICE}/web.service": ("web.service", SLICE),
    f"{SLICE}/web.service/part": ("web.service", SLICE),
    MANAGER: (f"user@{USER}.service", SLICE),
    f"{MANAGER}/system.slice/ssh.service": (f"{USER}/ssh.service", f"{USER}/system.slice"),
    f"{MANAGER}/app.slice/own.service": (f"{USER}/own.service", f"{USER}/app.slice"),
    f"{MANAGER}/any name": (f"user@{USER}.service", SLICE),
    CONTAINER: ("", ""),
    SLICE: ("", SLICE),
}


@pytest.mark.parametrize("when", ["after the probe", "before the probe"])
def test_a_process_has_the_unit_of_its_cgroup(when: str) -> None:
    """Each process has unit and slice of its cgroup, whenever that was made; those of a user carry the user."""
    with ExitStack() as stack:
        made = stack.enter_context(tree()) if when == "before the probe" else {}
        seen = stack.enter_context(watching())
        made = made or stack.enter_context(tree())
        found = {}
        for path in EXPECTED:
            with subprocess.Popen(inside(made[path], "true")) as process:
                pid = process.pid
            seen.until(partial(run_of_true, seen, pid), path)
            found[path] = run_of_true(seen, pid)
        assert found == EXPECTED
