"""The rights of workers that root starts one by one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from dnstrail_probe.ebpf.source import EbpfSource
from live.namespaces import live_or_skip
from live.processes import PATIENCE, children_of, dnstrail, run_dir, started, text_of, wait_until
from live.rights import Rights, rights_of, show

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")
WITHOUT_RIGHTS = ("packet", "dnstap", "dnstap:{folder}/other/dnstap.sock", "demo")
USER = 65533


@contextmanager
def folder_of_root() -> Iterator[Path]:
    """Yield a run-dir that does not exist yet, in a folder that everybody can pass."""
    with run_dir() as folder:
        folder.chmod(0o755)
        yield folder / "run"


@contextmanager
def worker(folder: Path, *arguments: str) -> Iterator[int]:
    """Yield the process of a worker that has made its socket, or that subscribes."""
    with started(*arguments, "--run-dir", folder, DNSTRAIL_RUN_DIR=str(folder)) as process:
        if arguments[0] == "signatures":
            assert process.stderr is not None
            assert any("ready" in line for line in process.stderr)
        else:
            name = {"probe": "events.sock", "cache": "lookups.sock"}[arguments[0]]
            wait_until((folder / name).exists, "the socket")
        yield process.pid


def uids(found: set[Rights]) -> set[int]:
    """Return the user ids of all threads."""
    return {uid for rights in found for uid in rights.uids}


def capabilities(process: int) -> set[str]:
    """Return the capabilities that any thread of a process has."""
    return {name for rights in rights_of(process) for name in rights.capabilities}


@pytest.mark.parametrize("first", ["probe", "cache", "signatures"])
def test_workers_started_one_by_one_become_one_user(first: str) -> None:
    """In any order, all threads of all workers run as the same user without rights, and the pipeline works."""
    commands = {"probe": ("probe", "--capture", "dnstap"), "cache": ("cache",), "signatures": ("signatures",)}
    with folder_of_root() as folder, ExitStack() as stack:
        order = sorted(commands, key=lambda name: name != first)
        found = {name: rights_of(stack.enter_context(worker(folder, *commands[name]))) for name in order}
        show(found)
        assert all(rights.none for threads in found.values() for rights in threads)
        [user] = set.union(*map(uids, found.values()))
        assert folder.stat().st_uid == user
        wait_until(lambda: "waiting" not in health(folder) and "silent" not in health(folder), "a turn at the cache")


@pytest.mark.parametrize("capture", WITHOUT_RIGHTS)
def test_a_source_that_needs_nothing_keeps_nothing(capture: str) -> None:
    """The probe of each source except eBPF has no right left, in any thread, once its socket is there."""
    with (
        folder_of_root() as folder,
        worker(folder, "probe", "--capture", capture.format(folder=folder.parent)) as probe,
    ):
        found = rights_of(probe)
        show({capture: found})
        assert all(rights.none for rights in found)


CHILDREN = [(False, {"CAP_SYS_PTRACE"}), (True, set())]  # a reader of files, and a relay


def of_children(probe: int) -> list[tuple[bool, set[str]]]:
    """Return of each child of a probe whether it is the relay, and its capabilities."""
    found = children_of(probe)
    return sorted((text_of(Path(f"/proc/{one}/comm")) == "dnstrail-relay\n", capabilities(one)) for one in found)


@pytest.mark.parametrize("capture", ["ebpf", "ebpf:getaddrinfo"])
def test_ebpf_keeps_two_capabilities(capture: str) -> None:
    """The probe of eBPF stays root with its capabilities alone; its child that reads files has one, its relay none."""
    live_or_skip()
    with folder_of_root() as folder, worker(folder, "probe", "--capture", capture) as probe:
        kept = {*EbpfSource.capabilities, "CAP_DAC_READ_SEARCH"}  # the latter in the thread that reads stores of users
        wait_until(lambda: capabilities(probe) == kept, "the threads, each of which drops its own rights")
        found = rights_of(probe)
        show({capture: found})
        assert all(rights.no_new_privileges and not rights.groups for rights in found)
        wait_until(lambda: of_children(probe) == CHILDREN, f"{CHILDREN}, each of which drops its own rights")
        assert all(rights.no_new_privileges for child in children_of(probe) for rights in rights_of(child))


@pytest.mark.parametrize("name", ["probe", "cache", "signatures"])
def test_a_worker_becomes_the_user_that_is_named(name: str) -> None:
    """With --user a worker becomes this user, and its folder belongs to this user."""
    capture = ("--capture", "dnstap") if name == "probe" else ()
    with folder_of_root() as folder, worker(folder, name, *capture, "--user", f"{USER}:{USER}") as process:
        assert (uids(rights_of(process)), folder.stat().st_uid) == ({USER}, USER)


def test_a_worker_becomes_the_owner_of_its_folder() -> None:
    """Without --user a worker of root becomes the owner of a folder that exists."""
    with folder_of_root() as folder:
        folder.mkdir(mode=0o750)
        os.chown(folder, USER, USER)
        with worker(folder, "cache") as process:
            assert uids(rights_of(process)) == {USER}


@pytest.mark.parametrize("arguments", [("--capture", "demo"), ("signatures", "--names")])
def test_root_of_a_namespace_with_one_user_keeps_it(arguments: tuple[str, ...]) -> None:
    """Where no other user exists, a run and a worker go on as the one that there is."""
    if subprocess.run(["unshare", "--map-root-user", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this host permits no user namespaces")
    command = ["unshare", "--map-root-user", sys.executable, "-m", "dnstrail_cli", *arguments]
    with folder_of_root() as folder:
        done = subprocess.run(
            [*command, "--run-dir", folder], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    assert done.returncode == 0, done.stderr


def health(folder: Path) -> str:
    """Return what the health command prints."""
    done = dnstrail("health", "--run-dir", folder)
    return done.stdout + done.stderr
