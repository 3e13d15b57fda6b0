"""Ten thousand processes a second on the real kernel: those of another cgroup are reported, with their names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dns.message
import pytest

from dnstrail.events import SCHED_PROCESS_EXIT, SCHED_PROCESS_FORK
from dnstrail_probe.host.process_table import MAX_PROCESSES
from live.ebpf_source import Watching, cgroup, inside, watching
from live.namespaces import live_or_skip
from live.ports import free_port

PORT = free_port("127.0.0.1")
OWN = f"dnstrail{os.getpid()}"
BOMBS, FORKS, EXECS, ASKED = 2, 15_000, 500, 30
ASK = """
import os, socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
    for _ in range(int(sys.argv[3])):
        if not os.fork():
            asking.sendto(bytes.fromhex(sys.argv[1]), ("127.0.0.1", int(sys.argv[2])))
            os._exit(0)
        os.wait()
"""


@pytest.mark.parametrize("words", [(str(FORKS),), (str(EXECS), "/bin/true")], ids=["forks", "execs"])
def test_a_fork_bomb_hides_no_process_of_another_cgroup(tmp_path, words):
    """Each child of an honest process and its query are reported; what the bomb itself loses is its own loss."""
    live_or_skip("gcc")
    bomb = tmp_path / "bomb"
    source = Path(__file__).parents[1] / "support" / "live" / "fork_bomb.c"
    subprocess.run(["gcc", "-O2", "-o", bomb, source], check=True, capture_output=True)
    query = dns.message.make_query("honest.test", "A").to_wire().hex()
    with watching(frozenset({PORT})) as watched, cgroup(f"{OWN}-bomb") as bombs, cgroup(f"{OWN}-honest") as folder:
        watched.look()
        running = [subprocess.Popen(inside(bombs, bomb, *words)) for _ in range(BOMBS)]
        honest = subprocess.Popen(inside(folder, sys.executable, "-c", ASK, query, str(PORT), str(ASKED)))
        watched.until(lambda: all(each.poll() is not None for each in (*running, honest)), "the processes to end")
        with subprocess.Popen(["/bin/true"]) as last:  # its events come after all others
            last.wait()
        watched.until(lambda: watched.of(last.pid, SCHED_PROCESS_EXIT), "the last event")
        asked = [one for one in watched.about("honest.test") if one.flow.egress]
        own = folder.stat().st_ino
        assert [(one.process.cgroup_id, one.process.parent_pid) for one in asked] == [(own, honest.pid)] * ASKED
        assert {Path(one.process.path).name for one in asked} == {Path(sys.executable).resolve().name}
        forked = [one.args["child_pid"] for one in watched.of(honest.pid, SCHED_PROCESS_FORK)]
        assert sorted(forked) == sorted(one.process.pid for one in asked)
        assert {*forked} <= {one.process.pid for one in watched.named(SCHED_PROCESS_EXIT)}
        assert {loss.cgroup for loss in watched.source.lost_by_cgroup} <= {bombs.stat().st_ino}
        assert reported(watched, bombs.stat().st_ino) + watched.source.counters["ring_full"] >= 2 * BOMBS * int(
            words[0]
        )
        assert len(watched.source._attribution.processes) <= MAX_PROCESSES


def reported(watched: Watching, cgroup: int) -> int:
    """Return the number of forks and exits of a cgroup."""
    both = watched.named(SCHED_PROCESS_FORK) + watched.named(SCHED_PROCESS_EXIT)
    return sum(one.process.cgroup_id == cgroup for one in both if one.process)
