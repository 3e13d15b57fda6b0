"""A host of a fleet that answers lookups over CURVE: a cache with its history, and the settings of who asks it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from dnstrail.bus.ipc import history_address, lookups_address, socket_path
from dnstrail.bus.keys import CLIENTS, SERVERS, allow, new_pair
from live.ports import free_port
from live.processes import run_dir, started, wait_until
from live.workers import Probe, probe

PLACE = "127.0.0.1"
ROOT = ("--user", f"{os.geteuid()}:{os.getegid()}")


class AnsweringHost(NamedTuple):
    """The sockets of a host, its address for others, its probe, and its keys and those of who asks it."""

    run: Path
    address: str
    probe: Probe
    keys: Path
    keys_of_asker: Path


@contextmanager
def answering_host(folder: Path, history: Path) -> Iterator[AnsweringHost]:
    """Run cache and history of a host with a live probe."""
    keys, asking = folder / "keys", folder / "keys-of-asker"
    allow(asking, SERVERS, PLACE, new_pair(keys), "web1")
    allow(keys, CLIENTS, "central", new_pair(asking))
    with run_dir() as run, ExitStack() as stack:
        lookups, address = lookups_address(run), f"tcp://{PLACE}:{free_port(PLACE)}"
        serve = ("cache", "--serve", lookups, "--serve", address, "--run-dir", run, *ROOT)
        stack.enter_context(started(*serve, DNSTRAIL_KEYS=str(keys)))
        wait_until(socket_path(lookups).exists, "the cache")
        keep = ("history", "--folder", history, "--days", "100000", "--cache", lookups, "--run-dir", run)
        stack.enter_context(started(*keep, *ROOT))
        wait_until(socket_path(history_address(lookups)).exists, "the history")
        capturing = stack.enter_context(probe(run, live=True))
        yield AnsweringHost(run, address, capturing, keys, asking)


def write_settings(path: Path, **hosts: str) -> Path:
    """Write settings with the addresses of hosts, and return their file."""
    lines = [f'{host} = "{address}"\n' for host, address in hosts.items()]
    path.write_text("[fleet.hosts]\n" + "".join(lines))
    path.chmod(0o600)
    return path
