"""History and cache, killed under load: each transaction is stored once, or its loss is counted."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from builders.dnstap_builders import START, Writer, first_writer
from builders.facts import read_segments, stored
from dnstrail.bus.ipc import lookups_address
from live.processes import PATIENCE, run_dir, started, wait_until
from live.tapped_resolver import resolved
from live.users import USER
from live.workers import asker

pytestmark = pytest.mark.timeout(900)
KILLS = int(os.environ.get("DNSTRAIL_KILLS", "6"))
RATE = 2_000  # transactions a second, without a pause
BETWEEN = 5_000  # transactions from one kill to the next, and up to as many again: at another place each time
AT_ONCE = 50
EVENTS = 2  # of a transaction: the cache counts what it misses in events
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

    @contextmanager
    def sending(self, writer: Writer) -> Iterator[None]:
        """Answer questions at the rate, until the end of a block."""
        stop = threading.Event()
        thread = threading.Thread(target=self._send, args=(writer, stop))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(PATIENCE)

    def _send(self, writer: Writer, stop: threading.Event) -> None:
        begin = time.monotonic()
        while not stop.wait(max(0.0, begin + self.sent / RATE - time.monotonic())):
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

    def await_facts(self, writer: Writer) -> None:
        """Wait until the last transaction is stored: those before are stored, or lost.

        The last one may be lost, too. Then a later one follows.
        """
        last = self.sent - 1

        def is_decided() -> bool:
            if newest(self.history) >= last:
                return True
            if self.lost:
                writer.send(resolved(self.sent))
                self.sent += 1
            return False

        wait_until(is_decided, f"transaction {last}", 3 * PATIENCE)


def newest(folder: Path) -> int:
    """Return the number of the last transaction in a folder, -1 without any."""
    query = f"SELECT text {NAMES} ORDER BY transactions.id DESC LIMIT 1"
    newest_of_each = read_segments(folder, lambda database: database.execute(query))
    return max((int(name[1:].partition(".")[0]) for (name,) in newest_of_each), default=-1)


def test_each_transaction_is_stored_once_over_kills():
    """Killed again and again at 2,000 transactions a second, history and cache lose none that is not counted.

    The count is near the loss: nothing is counted where nothing is missing.
    """
    lost = 0  # as the caches counted it that are gone
    with run_dir() as folder, ExitStack() as stack:
        service = Service(folder, stack)
        service.start("cache", "history", "probe")
        with closing(first_writer(folder / "dnstap.sock")) as writer:
            writer.send(START)
            with service.sending(writer):
                published = "facts_published"  # from now on: the cache publishes what it is asked for
                wait_until(lambda: published in service.counters["cache"], published)
                first = service.sent
                for kill in range(KILLS):
                    until, killed = service.sent + BETWEEN * (1 + kill % 5 / 5), KILLED[kill % len(KILLED)]
                    wait_until(lambda until=until: service.sent >= until, "further transactions")
                    lost += service.lost if "cache" in killed else 0
                    service.kill(*killed)
                    service.start(*killed)
                until = service.sent
            service.await_facts(writer)
        lost += service.lost
        service.stop("history")
        facts = stored(service.history)
    assert max(Counter(fact.values.id for fact in facts).values()) == 1
    assert max(Counter(fact.values.name for fact in facts).values()) == 1
    missing = {f"n{number}.example" for number in range(first, until)} - {fact.values.name for fact in facts}
    assert len(missing) <= lost <= 2 * EVENTS * KILLS * len(missing), sorted(missing)
