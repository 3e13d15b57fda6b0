"""Runs of `dnstrail run --enforce` one after the other, some of them killed: nothing is left on the host.

Each run is a small command that asks and connects. In every second run a process of it is killed (SIGKILL) at a random
moment: the command, its launcher, dnstrail, the writer of its files, a worker. At the end the programs, maps and links
of BPF, the cgroups, mounts, processes, and the files in /run and in the folder of temporary files are those of before.
It needs root. Elsewhere it says so, and ends with 0; with DNSTRAIL_REQUIRE_LIVE=1 it fails.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGINT, SIGKILL, default_int_handler, signal

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from dnstrail.kernel.cgroups import find_cgroup2
from dnstrail_run.cgroup import _own_cgroup
from live.pipelines import pipeline
from live.processes import PATIENCE, children_of, command_line, run_dir, text_of, wait_until
from live.remains import Remains, remains

OWN_PIPELINE = 6  # one of so many runs starts a pipeline of its own
LATEST = 1.1  # the last moment of a kill, in the duration of a run of this kind that was not killed
INSIDE = "DNSTRAIL_ENFORCED_RUNS_INSIDE"
# Namespaces of its own: an empty /run, a loopback of its own, and a resolver of this host in /etc/resolv.conf.
NAMESPACES = """
mount --make-rprivate / && mount -t tmpfs none /run && ip link set lo up || exit
echo nameserver 127.0.0.1 > /run/resolv.conf && mount --bind /run/resolv.conf /etc/resolv.conf || exit
exec "$@"
"""
RESOLVER = (
    *("dnsmasq", "--no-daemon", "--no-resolv", "--no-hosts", "--address=/test/127.0.0.1", "--bind-interfaces"),
    *("--listen-address=127.0.0.1", "--conf-file=/dev/null", "--pid-file="),
)
ALLOW_LIST = "listed.test:80\n"
# Asks a listed and another name, connects to a listed and another port, and leaves a process behind.
COMMAND = """
dig +tries=1 +time=1 +short listed.test @127.0.0.1
dig +tries=1 +time=1 +short other.test @127.0.0.1
(: < /dev/tcp/listed.test/80) 2> /dev/null
(: < /dev/tcp/127.0.0.1/81) 2> /dev/null
setsid -f sleep 0.2
"""


def main() -> int:
    """Make the runs, and print what they left; return 1 if that is anything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("enforced runs: not run, since it needs root")
        return bool(os.environ.get("DNSTRAIL_REQUIRE_LIVE"))
    if INSIDE not in os.environ:
        inside = ["unshare", "--net", "--mount", "sh", "-c", NAMESPACES, "sh", sys.executable, *sys.argv]
        return subprocess.run(inside, env={**os.environ, INSIDE: "1"}, check=False).returncode
    print(f"\n{options.runs} runs with --enforce, every second one killed, seed {options.seed}")
    with _own_place() as cgroup, run_dir() as folder:
        folder.chmod(0o755)
        found = _left(cgroup, folder, options.runs, random.Random(options.seed))
    for field, names in found.items():
        print(f"  {field} left: {len(names)}: {', '.join(names[:8])}")
    print(f"  {'NOTHING' if not found else 'SOMETHING'} was left")
    return 1 if found else 0


@contextmanager
def _own_place() -> Iterator[Path]:
    """Put this process into a cgroup of its own, which is removed at the end."""
    above = _own_cgroup(Path(find_cgroup2() or ""))
    place = above / f"enforced-runs-{os.getpid()}"
    place.mkdir()
    (place / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield place
    finally:
        (above / "cgroup.procs").write_text(str(os.getpid()))
        with suppress(OSError):  # something was left, which is printed
            place.rmdir()


class Runs:
    """Runs in one folder; `killed` counts what was killed, and `codes` the exit codes."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.killed: Counter[str] = Counter()
        self.codes: Counter[int] = Counter()
        self._folder = folder
        self._chance = chance
        self._usual: dict[Path, float] = {}  # seconds of the last run that was not killed, by its run-dir
        (folder / "allowed").write_text(ALLOW_LIST)

    def one(self, folder: Path, *command: str, kill: bool = False) -> None:
        """Make a run with the pipeline of a run-dir, and kill a process of it, or not."""
        run = (sys.executable, "-m", "dnstrail_cli", "run", "--allow", "allowed", "--enforce", "--quiet")
        began = time.monotonic()
        with subprocess.Popen(
            [*run, "--report", "r.json", "--", *command],
            cwd=self._folder,
            env={**os.environ, "SUDO_UID": "", "DNSTRAIL_RUN_DIR": str(folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            if kill:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(self._chance.uniform(0, LATEST * self._usual.get(folder, 1)))
                self.killed[_kill_one([process.pid, *_descendants(process.pid)], self._chance)] += 1
            self.codes[process.wait(PATIENCE)] += 1
        if not kill:
            self._usual[folder] = time.monotonic() - began


def _left(cgroup: Path, folder: Path, runs: int, chance: random.Random) -> dict[str, list[str]]:
    """Make the runs, until Ctrl-C; return what they left."""
    signal(SIGINT, default_int_handler)  # also where a shell has made a background job ignore it
    temporary = folder / "tmp"
    temporary.mkdir()
    temporary.chmod(0o1777)
    os.environ["TMPDIR"] = str(temporary)
    watched = (temporary, Path("/run"))
    before = remains(cgroup, watched)
    made = Runs(folder, chance)
    with subprocess.Popen(RESOLVER, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as resolver:
        try:
            with pipeline("--output", "json") as running:
                with suppress(KeyboardInterrupt):
                    for number in range(runs):
                        own = number // 2 % OWN_PIPELINE == 0
                        of_run = Path("/nowhere") if own else running.folder
                        made.one(of_run, "bash", "-c", COMMAND, kill=number % 2 == 1)
                        print(f"  {number + 1} of {runs}", end="\r", flush=True)
                wait_until(lambda: not _in_use(cgroup), "the end of killed runs")
                made.one(Path("/nowhere"), "true")  # it removes the cgroups and folders of those before it
        finally:
            resolver.terminate()
    usage, total = resource.getrusage(resource.RUSAGE_CHILDREN), made.codes.total()
    print(f"  {total} runs; killed: {', '.join(f'{name} {times}' for name, times in made.killed.most_common())}")
    print(f"  exit codes: {dict(made.codes.most_common())}")
    print(f"  processor time: {(usage.ru_utime + usage.ru_stime) / total:.2f} s a run, pipeline included")
    return _lasting(cgroup, watched, before)


def _in_use(cgroup: Path) -> list[Path]:
    """Return the cgroups of runs whose command or launcher goes on."""
    return [
        one
        for one in cgroup.glob("dnstrail-run-*")
        if "populated 1" in text_of(one / "cgroup.events") or Path("/proc", one.name.rpartition("-")[2]).exists()
    ]


def _kill_one(processes: list[int], chance: random.Random) -> str:
    """Kill one process; return what it was, "nothing" if it has ended."""
    victim = chance.choice(processes)
    name = _role_of(victim, first=processes[0])
    with suppress(ProcessLookupError):
        os.kill(victim, SIGKILL)
        return name
    return "nothing"


def _role_of(process: int, *, first: int) -> str:
    """Return what a process of a run is: dnstrail, a fork of it, a worker, or a program of the command."""
    line = command_line(process).replace("\0", " ")
    workers = [name for name in ("probe", "cache") if f"dnstrail_{name}" in line]
    if process == first:
        return "dnstrail"
    if workers:
        return workers[0]
    return "launcher or writer" if "dnstrail_cli" in line else text_of(Path(f"/proc/{process}/comm")).strip()


def _descendants(process: int) -> list[int]:
    children = children_of(process)
    return [*children, *(below for child in children for below in _descendants(child))]


def _lasting(cgroup: Path, watched: tuple[Path, ...], before: Remains) -> dict[str, list[str]]:
    """Return what is left once nothing ends any more, or no patience is left: other runs of this host end as well."""
    end = time.monotonic() + PATIENCE
    while (found := remains(cgroup, watched).beyond(before)) and time.monotonic() < end:
        time.sleep(0.2)
    return found


if __name__ == "__main__":
    sys.exit(main())
