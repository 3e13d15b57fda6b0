"""A user to whom a part of the cgroups is delegated chooses neither container nor owner, on the real kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dns.message
import pytest

from live.ebpf_source import Watching, cgroup, inside, watching
from live.namespaces import live_or_skip
from live.ports import free_port
from live.processes import PATIENCE

ID = os.urandom(32).hex()
USER = 60_543  # no other process of this host has it
PORT = free_port("127.0.0.1")
OWN = f"dnstrail{os.getpid()}"
# Become the user, make a cgroup, move there and send a query.
SEND = """
import os, pathlib, socket, sys
folder, user, packet, port = pathlib.Path(sys.argv[1]), int(sys.argv[2]), bytes.fromhex(sys.argv[3]), int(sys.argv[4])
os.setgroups([])
os.setresgid(user, user, user)
os.setresuid(user, user, user)
folder.mkdir()
(folder / "cgroup.procs").write_text(str(os.getpid()))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.sendto(packet, ("127.0.0.1", port))
"""


@pytest.fixture
def delegated() -> Iterator[Path]:
    """Yield a cgroup that belongs to the user."""
    live_or_skip()
    with cgroup(f"{OWN}-test.slice") as folder:
        give_away(folder)
        yield folder


@pytest.fixture
def watched(delegated) -> Iterator[Watching]:
    """Yield a source that runs before further cgroups are made."""
    with watching(frozenset({PORT})) as found:
        yield found


def give_away(folder: Path) -> None:
    """Let a cgroup belong to the user, as systemd delegates it."""
    for path in (folder, folder / "cgroup.procs", folder / "cgroup.subtree_control"):
        os.chown(path, USER, USER)


def send(parent: Path, folder: Path, user: int, name: str) -> None:
    """Send a query from a new cgroup, which a user makes below a cgroup that the user is in."""
    packet = dns.message.make_query(name, "A").to_wire().hex()
    command = inside(parent, sys.executable, "-c", SEND, folder, str(user), packet, str(PORT))
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
    finally:
        if folder.exists():
            folder.rmdir()


def containers_of(watched: Watching, name: str) -> set[str]:
    """Return the containers of the processes that sent a query."""
    watched.until(lambda: watched.about(name), "the query")
    return {event.process.container_id for event in watched.about(name)}


def test_a_user_cannot_choose_a_container(watched, delegated):
    """A process in a cgroup that a user made is on the host, although the cgroup has the name of a container."""
    send(delegated, delegated / f"docker-{ID}.scope", USER, "forged.test")
    assert containers_of(watched, "forged.test") == {""}


def test_a_cgroup_that_is_older_than_the_probe_names_no_container(delegated):
    """A cgroup that a user made before the probe started names no container either."""
    with cgroup(f"{delegated.name}/docker-{ID}.scope") as folder:
        give_away(folder)
        with watching(frozenset({PORT})) as watched:
            send(folder, folder / "own", USER, "earlier.test")
            assert containers_of(watched, "earlier.test") == {""}


def test_root_makes_containers(watched):
    """A cgroup that root made with this name is a container."""
    with cgroup(f"{OWN}-root.slice") as folder:
        send(folder, folder / f"docker-{ID}.scope", 0, "true.test")
        assert containers_of(watched, "true.test") == {ID}


def test_cgroups_that_a_user_makes_have_one_owner(watched, delegated):
    """Processes in 30 cgroups that a user makes and removes have the delegated one as their owner."""
    for number in range(30):
        send(delegated, delegated / str(number), USER, "owned.test")
    watched.until(lambda: len(watched.about("owned.test")) >= 30, "the queries")
    sent = [event.process for event in watched.about("owned.test")]
    assert len({process.cgroup_id for process in sent}) == 30
    assert {process.owner for process in sent} == {delegated.stat().st_ino}
