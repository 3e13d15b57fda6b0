"""The rights of every process of an all-in-one run that root starts."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import dnstrail_probe
from dnstrail_probe.ebpf.source import EbpfSource
from live.namespaces import live_or_skip
from live.processes import alive, dnstrail, run_dir, started, wait_until
from live.rights import Rights, rights_of, show, workers_of
from live.terminal import on_terminal

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")
CALLER = 61000
SUDO = {"SUDO_UID": str(CALLER), "SUDO_GID": str(CALLER)}
ROOT = {"SUDO_UID": "", "SUDO_GID": ""}
# Each source once, and each user with and without eBPF: a run chooses its user before its source.
RUNS = {
    "file-a caller of sudo": ("file", SUDO),
    "packet-root": ("packet", ROOT),
    "dnstap-a caller of sudo": ("dnstap:{folder}/dnstap.sock", SUDO),
    "ebpf-a caller of sudo": ("ebpf", SUDO),
    "ebpf:getaddrinfo-root": ("ebpf:getaddrinfo", ROOT),
}
DEMO = Path(dnstrail_probe.__file__).parent / "sources/demo.pcap"
NOBODY = pwd.getpwnam("nobody").pw_uid


@contextmanager
def running(capture: str, **env: str) -> Iterator[dict[str, int]]:
    """Yield the processes of a run that is ready, by their names."""
    if capture.startswith("ebpf"):
        live_or_skip()
    with run_dir() as folder:
        folder.chmod(0o755)
        source = ("--capture", capture.format(folder=folder), "--stay")
        if capture == "file":
            source = ("replay", str(DEMO), "--speed", "0.1")  # for fifty seconds
        events = ("--events", "DNS_DATA_SOURCE")  # nobody reads its stdout, and all events of this host would fill it
        arguments = (*source, "--run-dir", str(folder / "run"), *events)
        with started(*arguments, PYTHONFAULTHANDLER="1", **env) as run:
            assert run.stderr is not None
            wait_until(lambda: len(workers_of(run.pid)) == 4, "the workers")
            processes = workers_of(run.pid)
            wait_until(lambda: "dnstrail: ready\n" in iter(run.stderr.readline, ""), "the pipeline")
            try:
                yield processes
            except AssertionError as error:
                raise AssertionError(f"{error}\n{stacks_of(run, processes)}") from error


def stacks_of(run: subprocess.Popen[str], processes: dict[str, int]) -> str:
    """End what is left of a run; return the names, and what the processes write: the stacks of their threads."""
    left = {name: process for name, process in processes.items() if alive(process)}
    for process in left.values():
        os.kill(process, signal.SIGABRT)
        os.kill(process, signal.SIGCONT)
    return f"{left}: {run.communicate(timeout=10)[1]}"


def held(process: int) -> set[str]:
    """Return the capabilities that any thread of a process has."""
    return {name for rights in rights_of(process) for name in rights.capabilities}


def uids(found: set[Rights]) -> set[int]:
    """Return the user ids of all threads of a process."""
    return {uid for rights in found for uid in rights.uids}


@pytest.mark.parametrize(("capture", "env"), RUNS.values(), ids=RUNS)
def test_only_the_probe_of_ebpf_keeps_rights(capture: str, env: dict[str, str]) -> None:
    """All threads of all processes run as one user without rights; the eBPF probe is root with three capabilities."""
    with running(capture, **env) as processes:
        found = {name: rights_of(process) for name, process in processes.items()}
        show(found)
        probe = found.pop("probe")
        if capture.startswith("ebpf"):
            kept = {*EbpfSource.capabilities, "CAP_DAC_READ_SEARCH"}  # for the homes of users, in one thread
            wait_until(lambda: held(processes["probe"]) == kept, "the threads, each of which drops its own rights")
            assert all(rights.no_new_privileges for rights in probe)
        else:
            found["probe"] = probe
        assert all(rights.none for threads in found.values() for rights in threads)
        [user] = set.union(*map(uids, found.values()))
        assert user == CALLER if env is SUDO else user != NOBODY


def test_without_rights_the_run_ends_its_root_probe() -> None:
    """At SIGTERM the run, which has no rights, ends all workers."""
    with running("ebpf", **SUDO) as processes:
        os.kill(processes["dnstrail"], signal.SIGTERM)
        wait_until(lambda: not any(map(alive, processes.values())), "the end of the workers")


@pytest.mark.parametrize("env", [ROOT, SUDO], ids=["root", "a caller of sudo"])
def test_without_rights_the_run_removes_its_private_folder(env: dict[str, str]) -> None:
    """A run that made a folder for its sockets removes this folder, although it is not root any more."""
    with run_dir() as folder:
        folder.chmod(0o1777)
        done = dnstrail("replay", DEMO, "--events", "WATCHED_NAME", TMPDIR=str(folder), **env)
        assert (done.returncode, list(folder.iterdir())) == (0, []), done.stderr


def test_without_rights_the_run_shows_its_progress() -> None:
    """On a terminal, a bar appears while a file is read, although the user of the run may not read our modules."""
    command = [sys.executable, "-m", "dnstrail_cli", "replay", str(DEMO), "--speed", "1", "--events", "WATCHED_NAME"]
    code, shown = on_terminal(command, stdout=subprocess.DEVNULL, env={**os.environ, **SUDO})
    assert (code, b"reading demo.pcap" in shown) == (0, True), shown


@pytest.mark.parametrize("capture", ["file", "ebpf"])
def test_workers_end_with_a_killed_run(capture: str) -> None:
    """After kill -9 of the run, which has no rights, no worker is left."""
    with running(capture, **SUDO) as processes:
        os.kill(processes["dnstrail"], signal.SIGKILL)
        wait_until(lambda: not any(map(alive, processes.values())), "the end of the workers")


def test_a_hung_root_probe_is_killed() -> None:
    """If the root probe is stopped, the run, which has no rights, kills it."""
    with running("ebpf", **SUDO) as processes:
        os.kill(processes["probe"], signal.SIGSTOP)
        wait_until(lambda: not any(map(alive, processes.values())), "the end of the run")


def test_a_second_run_leaves_the_folder_of_the_first_as_it_is() -> None:
    """A run on the folder of a running one is refused before the folder changes hands."""
    with run_dir() as folder:
        folder.chmod(0o755)
        sockets = folder / "run"
        with started("--capture", "dnstap", "--run-dir", sockets, SUDO_UID="61000", SUDO_GID="61000") as run:
            assert run.stderr is not None
            wait_until(lambda: "dnstrail: ready\n" in iter(run.stderr.readline, ""), "the pipeline")
            second = dnstrail("--capture", "demo", "--run-dir", sockets, SUDO_UID="61001", SUDO_GID="61001")
            assert (second.returncode, sockets.stat().st_uid) == (4, 61000)
            assert "another dnstrail serves here" in second.stderr
