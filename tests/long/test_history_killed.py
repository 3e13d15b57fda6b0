"""History and cache, killed under load: each transaction is stored once, or its loss is counted."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from builders.dnstap_builders import START, Writer, first_writer
from builders.facts import stored
from dnstrail.bus.ipc import lookups_address
from live.processes import PATIENCE, run_dir, started, wait_until
from live.tapped_resolver import resolved
from live.users import USER
from live.workers import asker

pytestmark = pytest.mark.timeout(900)
KILLS = 20
RATE = 2_000  # transactions a second
BURST = 2_000  # transactions from one kill to the next
AT_ONCE = 50
WITHOUT = 200  # transactions while a worker is killed
NAMES = "FROM transactions JOIN texts ON texts.id = name"
KILLED = (("history",), ("cache",), ("cache", "history"))


class Service:
    """Workers of which some are killed, and a resolver that has `sent` transactions."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        state, self.history = folder.parent / "state", folder.parent / "history"
        state.mkdir(mode=0o700)
        if is_root := os.geteuid() == 0:
            os.chown(state, USER, USER)
        self._common = ("--run-dir", folder, *(("--user", f"{USER}:{USER}") if is_root else ()))
        self._options = {
            "cache": ("--state", state / "image"),
            "history": ("--folder", self.history),
            "probe": ("--capture", f"dnstap:{folder}/dnstap.sock", "--subscribers", "1"),
        }
        self._stack = stack
        self._workers: dict[str, subprocess.Popen[str]] = {}
        self._lookups = lookups_address(folder)
        self.sent = 0

    def start(self, *names: str) -> None:
        """Start workers."""
        for name in names:
            self._workers[name] = self._stack.enter_context(started(name, *self._common, *self._options[name]))

    def kill(self, *names: str) -> None:
        """Kill workers."""
        for name in names:
            os.kill(self._workers[name].pid, signal.SIGKILL)
        for name in names:
            self._workers[name].wait(PATIENCE)

    def send(self, writer: Writer, number: int) -> None:
        """Answer further questions, at the rate."""
        begin = time.monotonic()
        for done in range(0, number, AT_ONCE):
            time.sleep(max(0.0, begin + done / RATE - time.monotonic()))
            writer.send(b"".join(resolved(self.sent + one) for one in range(AT_ONCE)))
            self.sent += AT_ONCE

    def stop(self, name: str) -> None:
        """Stop a worker."""
        self._workers[name].send_signal(signal.SIGTERM)
        assert self._workers[name].wait(PATIENCE) == 0

    @property
    def counters(self) -> dict:
        """The counters of the cache."""
        with asker(self._lookups) as client:
            return client.ask("stats")["data"]

    @property
    def lost(self) -> int:
        """The number of events and facts that are counted as lost."""
        return self.counters["lost"]["total"]

    def await_facts(self, writer: Writer) -> int:
        """Wait until the last transaction is stored: those before are stored, or lost. Return how many events are lost.

        The last one may be lost, too. Then a later one follows.
        """
        last = self.sent - 1

        def is_decided() -> bool:
            if newest(self.history) >= last:
                return True
            if self.lost:
                self.send(writer, AT_ONCE)
            return False

        wait_until(is_decided, f"transaction {last}", 3 * PATIENCE)
        return self.lost


def newest(folder: Path) -> int:
    """Return the number of the last transaction in a folder, -1 without any."""
    last = -1
    for path in [*folder.glob("*.open"), *folder.glob("*.segment")]:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            rows = database.execute(f"SELECT text {NAMES} ORDER BY transactions.id DESC LIMIT 1").fetchall()
            last = max([last, *(int(name[1:].partition(".")[0]) for (name,) in rows)])
    return last


def test_each_transaction_is_stored_once_over_kills():
    """Killed 20 times at 2,000 transactions a second, history and cache lose none that is not counted."""
    lost = 0
    with run_dir() as folder, ExitStack() as stack:
        service = Service(folder, stack)
        service.start("cache", "history", "probe")
        with closing(first_writer(folder / "dnstap.sock")) as writer:
            writer.send(START)
            published = "facts_published"  # from now on: the cache publishes what it is asked for
            wait_until(lambda: service.send(writer, AT_ONCE) or published in service.counters["cache"], published)
            first = service.sent
            for kill in range(KILLS):
                killed, before = KILLED[kill % len(KILLED)], AT_ONCE * (kill + 1)  # at another place each time
                service.send(writer, before)
                service.kill(*killed)
                service.send(writer, WITHOUT)
                service.start(*killed)
                service.send(writer, BURST - WITHOUT - before)
                lost += service.await_facts(writer)
            until = service.sent
        service.stop("history")
        facts = stored(service.history)
    assert max(Counter(fact.values.id for fact in facts).values()) == 1
    assert max(Counter(fact.values.name for fact in facts).values()) == 1
    missing = {f"n{number}.example" for number in range(first, until)} - {fact.values.name for fact in facts}
    assert len(missing) <= lost, sorted(missing)
