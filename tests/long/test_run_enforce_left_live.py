"""`dnstrail run --enforce` leaves nothing on the host, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dnstrail.kernel.cgroups import find_cgroup2
from dnstrail_run.cgroup import _own_cgroup
from dnstrail_run.enforce.hooks import _HOOKS
from live.enforced import LISTED_RUN, client_folder, watched
from live.namespaces import live_or_skip
from live.processes import PATIENCE, children_of, wait_until
from live.remains import remains

RUNS = os.environ.get("DNSTRAIL_ENFORCED_RUNS", "8")  # every second one is killed; two have a pipeline of their own
TOOL = Path(__file__).parents[1] / "soak" / "enforced_runs.py"


@pytest.mark.timeout(60 * int(RUNS) + 300)
def test_runs_leave_nothing():
    """After runs of which some are killed, kernel objects, cgroups, mounts, processes and files are those of before."""
    live_or_skip("dig", "unshare")
    done = subprocess.run(
        [sys.executable, TOOL, "--runs", RUNS, "--seed", "5"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{int(RUNS) + 1} runs" in done.stdout


def test_what_a_killed_run_holds_is_found():
    """While the command of a killed run goes on, the command, its programs and its cgroup are found, and later not."""
    live_or_skip()
    own = _own_cgroup(Path(find_cgroup2() or ""))
    with client_folder() as folder, watched():
        before = remains(own, [folder])
        with subprocess.Popen([*LISTED_RUN, "--", "sh", "-c", "touch ready; exec sleep 120"], cwd=folder) as process:
            try:
                wait_until((folder / "ready").exists, "the command")
                (launcher,) = [child for child in children_of(process.pid) if children_of(child)]
                (command,) = children_of(launcher)
                os.kill(launcher, signal.SIGKILL)
            finally:
                process.kill()
            process.wait(PATIENCE)
            made = own / f"dnstrail-run-{launcher}"
            found = remains(own, [folder]).beyond(before)
            os.kill(command, signal.SIGKILL)
        assert made.name in found["cgroups"]
        assert str(folder / "ready") in found["files"]
        assert [name for name in found["processes"] if name.startswith(f"{command} ")]
        assert len([one for one in found["objects"] if "programs" in one]) >= len(_HOOKS), "a guard for each"
        wait_until(lambda: not (made / "cgroup.procs").read_text(), "the end of the command")
        made.rmdir()
        of_run = {*found["objects"]}
        wait_until(lambda: not of_run & {*map(str, remains(own, [folder]).objects)}, "the end of the programs")
