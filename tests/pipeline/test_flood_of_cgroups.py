"""A user who makes many cgroups and floods from each evicts no names of others, on the real kernel."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from builders.talk import answer, query
from dnstrail.bus.ipc import lookups_address
from live.ebpf_source import cgroup, inside
from live.namespaces import live_or_skip
from live.pipelines import Run, pipeline
from live.ports import free_port
from live.processes import PATIENCE, wait_until
from live.workers import Asker, asker

USER = 60_544  # no other process of this host has it
PORT = free_port("127.0.0.1")
SIZE, CGROUPS, FRESH = 1000, 30, 250
NAMES = [f"other{number}" for number in range(300)]
# Become the user, make a cgroup for each process, and ask fresh names from all of them at once.
FLOOD = """
import os, pathlib, socket, sys
parent, user, port, cgroups, fresh = pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:6])
os.setgroups([])
os.setresgid(user, user, user)
os.setresuid(user, user, user)
for number in range(cgroups):
    if os.fork() == 0:
        folder = parent / str(number)
        folder.mkdir()
        (folder / "cgroup.procs").write_text(str(os.getpid()))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(60)
            for count in range(fresh):
                name = f"f{number:02}{count:03}".encode()
                head = bytes((0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, len(name)))
                asking.sendto(head + name + bytes((0, 0, 1, 0, 1)), ("127.0.0.1", port))
                try:
                    asking.recv(512)
                except TimeoutError:
                    pass
        os._exit(0)
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
"""


@contextmanager
def name_server() -> Iterator[None]:
    """Answer every question for an address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", PORT))

        def serve() -> None:
            while (received := server.recvfrom(512))[0]:
                asked, client = received
                server.sendto(asked[:2] + ANSWER[2:12] + asked[12:] + ANSWER[-16:], client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", ("127.0.0.1", PORT))
            thread.join()


ANSWER = answer("192.0.2.1", ttl=3600)


@pytest.fixture
def delegated() -> Iterator[Path]:
    """Yield a cgroup that belongs to the user."""
    live_or_skip()
    with cgroup(f"dnstrail{os.getpid()}-flood.slice") as folder:
        for path in (folder, folder / "cgroup.procs", folder / "cgroup.subtree_control"):
            os.chown(path, USER, USER)
        try:
            yield folder
        finally:
            for below in folder.glob("*/"):
                below.rmdir()


def ask(name: str) -> None:
    """Ask for a name, in the cgroup of this process, until it is answered."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(PATIENCE)
        asking.sendto(query(name), ("127.0.0.1", PORT))
        assert asking.recv(512)


def found(client: Asker, name: str) -> bool:
    """Return whether a lookup finds a name; with `at` it uses no root."""
    return bool(client.ask("get", key=name, at=time.time())["ok"])


def test_a_user_with_many_cgroups_evicts_no_names_of_others(delegated) -> None:
    """300 of 300 names that another process asks before and during the flood are found, at once and at the end."""
    options = ["--capture", "ebpf", "--dns-ports", str(PORT), "--dnscache", f"enable,size={SIZE}"]
    flood = inside(delegated, sys.executable, "-c", FLOOD, delegated, *map(str, (USER, PORT, CGROUPS, FRESH)))
    with (
        name_server(),
        pipeline(*options, "--events", "DNS_DATA_SOURCE") as run,
        asker(lookups_address(run.folder)) as client,
    ):
        ask_and_find(client, NAMES[:150])
        with subprocess.Popen(flood) as flooding:
            ask_and_find(client, NAMES[150:])
            assert flooding.wait(2 * PATIENCE) == 0
        wait_until(lambda: messages(run) >= 2 * (len(NAMES) + CGROUPS * FRESH), "the flood in the image")
        assert [name for name in NAMES if not found(client, name)] == []
        assert run.stats()["image"]["evicted_roots"] >= CGROUPS * FRESH + len(NAMES) - SIZE


def ask_and_find(client: Asker, names: list[str]) -> None:
    """Ask for names, and look up each until it is found."""
    for name in names:
        ask(name)
        wait_until(lambda name=name: found(client, name), name)


def messages(run: Run) -> int:
    """Return the number of messages that were applied."""
    return int(run.stats()["image"]["messages"])
