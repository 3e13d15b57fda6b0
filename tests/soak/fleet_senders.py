"""A thousand senders beside one store: memory, lag, and whether what was sent is stored or counted.

    python tests/soak/fleet_senders.py [--minutes 1] [--senders 1000] [--rows 4] [--every 1] [--loud 500]

The engine is a real Valkey with TLS and a user a host, the store a real `dnstrail fleet store`. Few processes play the
senders, each with its own connection and an entry a second, the most that a host sends; four seconds between two are
usual, with `--rows 16 --every 4`. One more host is loud: it asks for 500 new names a second, and has its share of a day
after nine minutes. A lag is the time from that of an entry in the engine until the file of the store has it. As root,
all have the processors before other programs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from heapq import heapify, heapreplace
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from builders.fleet import row
from builders.fleet_rows import NAMES, name_of, popular
from dnstrail_fleet.files import open_to_read
from dnstrail_fleet.log.contract import LogUnavailableError
from dnstrail_fleet.log.engine_address import parse_engine
from dnstrail_fleet.log.valkey_log import ValkeyLog
from dnstrail_fleet.row import VERSION, AskerRows, FleetEntry, FleetRow, encode_entry
from dnstrail_fleet.store.schema import NAME
from live.fleet_processes import ROOT
from live.processes import PATIENCE, processor_time, resident, run_dir, wait_until
from live.valkey_server import Engine, engine

PROCESSES = 2
LOUD = "loud"
_PROGRAMS = 10
_POLL = 0.05  # seconds between two looks at the store
_REPORT = 10.0  # seconds between two lines


class Sender:
    """A host that sends an entry a second, and knows which rows it sent."""

    def __init__(self, host: str, option: str, rows: int) -> None:
        self.host = host
        self.sent: set[tuple[object, ...]] = set()  # the keys of its rows
        self.log = ValkeyLog(parse_engine(option), time.monotonic)
        self._rows = rows
        self._chosen = random.Random(host)
        self._waiting: list[FleetRow] = []
        self._program = ""

    def send(self) -> tuple[str, int, int]:
        """Send an entry; return the host, the time of the entry in the engine (ms), and its number of rows.

        Raises:
            LogUnavailableError: The engine did not take it: the next call sends its rows.
        """
        if not self._waiting:
            self._program = f"/usr/bin/worker{self._chosen.randrange(_PROGRAMS)}"
            self._waiting = [*self._new_rows(int(time.time()))]
        sent = AskerRows(self._program, "", "", tuple(self._waiting))
        self.log.append(encode_entry(FleetEntry(VERSION, self.host, int(time.time() * 1000), askers=(sent,))))
        self.sent.update(
            hash((self._program, one.question, one.owner, one.type, one.target, one.day)) for one in self._waiting
        )
        count, self._waiting = len(self._waiting), []
        return self.host, int(self.log._unsure[-1][0].partition(b"-")[0]), count

    def _new_rows(self, now: int) -> Iterator[FleetRow]:
        for number in range(len(self.sent), len(self.sent) + self._rows) if self.host == LOUD else ():
            yield row(f"n{number}.loud.example", f"198.{number >> 16}.{number >> 8 & 255}.{number & 255}", at=now)
        left = 0 if self.host == LOUD else self._rows
        while left > 0:
            number = popular(self._chosen, NAMES) if self._chosen.random() < 0.5 else self._chosen.randrange(NAMES)
            question, relations = name_of(number)
            for owner, rdtype, target in relations[:left]:
                left -= 1
                yield row(question, target, owner="" if owner == question else owner, type=rdtype, at=now)


def play(senders: dict[str, tuple[str, int]], every: float, told: Connection, stop: Any) -> None:
    """Play senders, given as the options and rows by host, until the stop signal; tell what they send.

    `every` is the time in seconds between two entries of one.

    At last it tells the number of different rows by host, and how often the engine took no entry.
    """
    played = [Sender(host, *one) for host, one in senders.items()]
    begin, faults = time.monotonic(), 0
    due = [(begin + every * (1 + place / len(played)), place) for place in range(len(played))]
    heapify(due)
    while not stop.is_set():
        when, place = due[0]
        if (pause := when - time.monotonic()) > 0:
            time.sleep(min(pause, _POLL))
            continue
        try:
            told.send(played[place].send())
        except LogUnavailableError:
            faults += 1
        heapreplace(due, (max(when + every, time.monotonic() - every), place))
    told.send(({one.host: len(one.sent) for one in played}, faults))
    for one in played:
        one.log.close()


class Watch:
    """What was sent, and when the store had it."""

    def __init__(self, path: Path) -> None:
        self.entries = self.rows = 0
        self.lags: dict[bool, list[float]] = {False: [], True: []}  # by whether the host is the loud one
        self._database = open_to_read(path)
        self._waiting: dict[str, deque[int]] = {}

    @property
    def waiting(self) -> int:
        """The entries that the store does not have."""
        return sum(map(len, self._waiting.values()))

    def note(self, host: str, at: int, rows: int) -> None:
        """Note an entry that was sent."""
        self._waiting.setdefault(host, deque()).append(at)
        self.rows += rows
        self.entries += 1

    def look(self) -> None:
        """Find out which of them the store has: it receives the entries of a host in their order."""
        now = time.time() * 1000
        for host, heard in self._database.execute("SELECT name, heard FROM hosts"):
            waiting = self._waiting.get(host, ())
            while waiting and waiting[0] <= heard:
                self.lags[host == LOUD].append((now - waiting.popleft()) / 1000)

    def stored(self) -> int:
        """Return the number of stored rows."""
        return int(self._database.execute("SELECT count(*) FROM rows").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def main() -> int:
    """Run, and print the figures; return 1 if something is neither stored nor counted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0, help="(default %(default)s)")
    parser.add_argument("--senders", type=int, default=1_000, help="(default %(default)s)")
    parser.add_argument("--rows", type=int, default=4, help="rows of an entry (default %(default)s)")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two entries (default %(default)s)")
    parser.add_argument("--loud", type=int, default=500, help="rows of an entry of the loud host; 0: none")
    given = parser.parse_args()
    rows = {f"host{number}": given.rows for number in range(given.senders)} | ({LOUD: given.loud} if given.loud else {})
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="dt-", dir="/tmp")))
        with suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))  # a busy host would measure the others
        running = stack.enter_context(engine(folder / "engine", *rows))
        store = stack.enter_context(_store(folder, running))
        wait_until((folder / "store" / NAME).exists, "the store")
        watch = stack.enter_context(closing(Watch(folder / "store" / NAME)))
        told, end = _played(stack, {host: (running.option(host), count) for host, count in rows.items()}, given.every)
        distinct, faults = _watched(watch, told, end, given.minutes * 60, store, running)
        stored = watch.stored()
        store.terminate()
        store.wait(PATIENCE)
        counted = json.loads((folder / "store.log").read_text().splitlines()[-1])
    return _shown(watch, distinct, faults, stored, counted)


@contextmanager
def _store(folder: Path, running: Engine) -> Iterator[subprocess.Popen[bytes]]:
    with run_dir() as run, (folder / "store.log").open("wb") as log:
        command = ("fleet", "store", "--engine", running.option("store"), "--folder", folder / "store", *ROOT)
        words = [sys.executable, "-m", "dnstrail_cli", *map(str, command), "--run-dir", str(run)]
        process = subprocess.Popen(words, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def _played(
    stack: ExitStack, senders: dict[str, tuple[str, int]], every: float
) -> tuple[list[Connection], Callable[[], None]]:
    """Start the processes of the senders; return what they tell, and what ends them."""
    context = multiprocessing.get_context("spawn")
    stop, told = context.Event(), []
    for place in range(PROCESSES):
        ours, theirs = context.Pipe(duplex=False)
        part = dict([*senders.items()][place::PROCESSES])
        process = context.Process(target=play, args=(part, every, theirs, stop), daemon=True)
        process.start()
        theirs.close()
        stack.callback(process.join, PATIENCE)
        told.append(ours)
    stack.callback(stop.set)
    return told, stop.set


def _watched(
    watch: Watch,
    told: list[Connection],
    end: Callable[[], None],
    seconds: float,
    store: subprocess.Popen[bytes],
    running: Engine,
) -> tuple[dict[str, int], int]:
    """Watch until all is stored; return the different rows by host, and how often the engine took no entry."""
    assert running._process is not None
    processes = {"store": store.pid, "engine": running._process.pid}
    admin, totals, faults = running.client(), dict[str, int](), 0
    open_ends, last, costs, places = [*told], 0.0, _costs(processes), {True: 0, False: 0}
    begin = looked = time.monotonic()
    while open_ends or watch.waiting:
        for one in [*open_ends]:
            while one.poll():
                if len(found := one.recv()) == 3:
                    watch.note(*found)
                else:
                    totals |= found[0]
                    faults += found[1]
                    open_ends.remove(one)
                    break
        watch.look()
        now = time.monotonic()
        if now - begin > seconds:
            end()
        assert now - begin < seconds + PATIENCE, f"waited in vain for {watch.waiting} entries"
        if now - last >= _REPORT:
            new, passed = _costs(processes), now - looked
            used = ", ".join(
                f"{name} {resident(pid):.0f} MiB {(new[name] - costs[name]) / max(passed, 1):.0%}"
                for name, pid in processes.items()
            )
            held = admin.info("memory")["used_memory"] / 2**20
            part = watch.lags[False][places[False] :]
            text = f"{now - begin:4.0f} s: {used}, held {held:.0f} MiB; sent {watch.entries:,}"
            print(f"{text}, waiting {watch.waiting:,}; lag {_percentiles(part)}", flush=True)
            last, looked, costs, places = now, now, new, {key: len(some) for key, some in watch.lags.items()}
        time.sleep(_POLL)
    return totals, faults


def _costs(processes: dict[str, int]) -> dict[str, float]:
    return {name: processor_time(pid).used for name, pid in processes.items()}


def _percentiles(seconds: list[float]) -> str:
    if not seconds:
        return "-"
    some = sorted(seconds)
    return ", ".join(
        f"{what} {some[int(share * (len(some) - 1))]:.2f}"
        for what, share in (("p50", 0.5), ("p99", 0.99), ("longest", 1.0))
    )


def _shown(watch: Watch, distinct: dict[str, int], faults: int, stored: int, counted: dict[str, int]) -> int:
    for loud, lags in watch.lags.items():
        print(f"lag of {'the loud host' if loud else 'the senders'}, s: {_percentiles(lags)}")
    rows = counted["rows"] + counted["left_out"] + counted["too_old"]
    print(f"sent {watch.entries:,} entries, {watch.rows:,} rows; not taken by the engine, and sent again: {faults}")
    print(f"stored {counted['entries']:,} entries, {counted['rows']:,} rows; left out {counted['left_out']:,}")
    different = sum(distinct.values()) - counted["left_out"]
    print(f"different rows: sent {sum(distinct.values()):,}, stored {stored:,}; load {os.getloadavg()[0]:.1f}")
    is_whole = (counted["entries"], rows, stored) == (watch.entries, watch.rows, different)
    print("sent = stored + counted" if is_whole else f"DIFFERS: {counted}")
    return int(not is_whole)


if __name__ == "__main__":
    sys.exit(main())
