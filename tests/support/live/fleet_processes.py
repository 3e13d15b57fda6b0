"""The processes of a fleet: an engine, senders over histories, and a store."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec

from builders.facts import SECOND, TO_WEB, fact_of, progress_of, stage_of
from dnstrail.bus.ipc import fleet_address
from dnstrail.captured import Process
from dnstrail.client import LookupClient
from dnstrail.errors import DataSourceError
from dnstrail.process.clock import SystemClock
from dnstrail_history.store.store import FactStore
from live.processes import dnstrail, run_dir, started
from live.valkey_server import Engine, engine

ROOT = ("--user", f"{os.geteuid()}:{os.getegid()}")
CURL = Process(7, "curl", "/usr/bin/curl", container_name="shop", container_image="shop:1", start_time=5)
WGET = Process(8, "wget", "/usr/bin/wget", user_id=1000, start_time=6)


class Fleet:
    """The processes of a fleet, and the histories of its hosts."""

    def __init__(self, folder: Path, running: Engine, run: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.engine = running
        self.run = run
        self.senders: dict[str, subprocess.Popen[str]] = {}
        self.histories: dict[str, FactStore] = {}
        self.client = LookupClient(fleet_address(run), timeout=10.0)
        self._stack = stack
        self._numbers = 0
        stack.callback(self.client.close)

    def history(self, host: str) -> FactStore:
        """Return the history of a host, which stays open."""
        found = FactStore(self.folder / host, SystemClock())
        self._stack.callback(found.close)
        return found

    def keep(self, history: FactStore, name: str, address: str, process: Process = CURL) -> None:
        """Store an answer in a history."""
        self._numbers += 1
        ended = int(time.time() * SECOND)
        history.add(fact_of(self._numbers, ended=ended, process=process, relations=((name, 1, address, 300),)))
        assert history.commit(progress_of(self._numbers))

    def connect(self, history: FactStore, name: str, address: str, process: Process = CURL) -> None:
        """Store the end of a connection by a name in a history."""
        self._numbers += 1
        flow = msgspec.structs.replace(TO_WEB, destination=ip_address(address).packed)
        ended = stage_of(self._numbers, "end", time=int(time.time() * SECOND), flow=flow, name=name)
        history.add(msgspec.structs.replace(ended, process=process))
        assert history.commit(progress_of(self._numbers))

    def send(self, host: str, *options: str | Path) -> subprocess.Popen[str]:
        """Start the sender of a host."""
        given = ("fleet", "send", "--engine", self.engine.option(host), "--history", self.folder / host)
        state = self.folder / f"{host}-state"
        sender = self._stack.enter_context(started(*given, "--folder", state, *options))
        self.senders[host] = sender
        return sender

    def store(self, *options: str) -> subprocess.Popen[str]:
        """Start the store."""
        given = ("fleet", "store", "--engine", self.engine.option("store"), "--folder", self.folder / "store")
        return self._stack.enter_context(started(*given, "--run-dir", self.run, *ROOT, *options))

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a lookup."""
        return dnstrail("fleet", *words, "--run-dir", self.run)

    def data(self, op: str, **fields: object) -> dict[str, Any]:
        """Return the data of a lookup, {} if nothing is known or no store answers yet."""
        try:
            return self.client.request(op, **fields)["data"]
        except DataSourceError:
            return {}


@contextmanager
def fleet(folder: Path, *users: str) -> Iterator[Fleet]:
    """Make a fleet without processes but the engine."""
    with engine(folder / "engine", *users) as running, run_dir() as run, ExitStack() as stack:
        yield Fleet(folder, running, run, stack)
