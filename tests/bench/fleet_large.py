"""A store of ten million rows: what a row costs, and lookups over the bus at a real `dnstrail fleet store`.

    python tests/bench/fleet_large.py [--rows 10000000] [--days 10] [--folder FOLDER]

It takes some minutes, and two gigabytes. A folder of an earlier run is used again.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from figures import Figure, line, spread
from fleet import removal

from builders.fleet import received
from builders.fleet_rows import HOSTS, NAMES, PROGRAMS, entry_of, name_of, popular
from dnstrail.bus.ipc import fleet_address
from dnstrail.client import LookupClient
from dnstrail.errors import DataNotFound, DataSourceError
from dnstrail.history.database import transaction
from dnstrail_fleet.row import DAY
from dnstrail_fleet.store.store import _SHARE, FleetStore
from live.fleet_processes import ROOT
from live.processes import run_dir, started, wait_until
from live.valkey_server import engine

_ROWS_OF_ENTRY, _AT_ONCE = 50, 20
_LOOKUPS, _TOPS = 1_000, 30
_SHOWN = "p50", "p99"
_MEASURED = 200_000  # rows
_COPY = (
    """
    INSERT INTO rows SELECT ?, target, owner, type, question, host, asker, first, last, "end", count, gaps, doubted,
        used
    FROM rows WHERE day = ?""",
    "INSERT INTO shares SELECT ?, host, rows FROM shares WHERE day = ?",
)


def main() -> None:
    """Fill a store, and ask it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000, help="(default %(default)s)")
    parser.add_argument("--days", type=int, default=10, help="of the rows, at least three (default %(default)s)")
    parser.add_argument("--folder", type=Path, help="of the store, which is kept (default: a temporary one)")
    given = parser.parse_args()
    noon = int(time.time()) // DAY * DAY + DAY // 2
    with ExitStack() as stack:
        folder = given.folder or Path(stack.enter_context(TemporaryDirectory(dir=Path.cwd())))
        for figure in chain(_filled(folder / "store", given.rows, given.days, noon), _asked(folder, given.days, noon)):
            print(line(figure.title, [figure]), flush=True)
        with closing(FleetStore(folder / "store")) as store:
            for figure in () if given.folder else removal(store, noon + (store._days + 2 - given.days) * DAY):
                print(line(figure.title, [figure]), flush=True)
    print(f"load {os.getloadavg()[0]:.1f}")


def _filled(folder: Path, rows: int, days: int, noon: int) -> Iterator[Figure]:
    """Fill all days quickly, and measure what further rows of the last one cost."""
    chosen, last = random.Random(31), noon // DAY
    with closing(FleetStore(folder)) as store:
        store._database.execute("PRAGMA cache_size=-400000")
        if not _stored(store, last):
            _fill_day(store, chosen, last, rows // days)
            for day in range(last - days + 1, last):
                with transaction(store._database):
                    for statement in _COPY:
                        store._database.execute(statement, (day, last))
        store._database.execute("PRAGMA cache_size=-2000")
        used, steps, chosen = 0, list[float](), random.Random(_stored(store, last))  # new rows in each run
        for _ in range(_MEASURED // _AT_ONCE // _ROWS_OF_ENTRY):
            part = [received(entry_of(chosen, 0, _ROWS_OF_ENTRY, noon)) for _ in range(_AT_ONCE)]
            began, cpu = time.perf_counter_ns(), time.process_time_ns()
            store.write(part, {}, noon)
            used += time.process_time_ns() - cpu
            steps.append((time.perf_counter_ns() - began) / 10**6)
        yield Figure(f"store, a row, {_MEASURED:,} more of the last day", used / _MEASURED / 1000, "us")
        yield from spread("store, a write of 1,000 rows", steps, "ms", *_SHOWN)
        yield Figure("store, the longest write of 1,000 rows", max(steps), "ms")
        [count] = store._database.execute("SELECT count(*) FROM rows").fetchone()
        store._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        yield Figure(f"store, a row of {count:,}", store.path.stat().st_size / count, "bytes")


def _fill_day(store: FleetStore, chosen: random.Random, day: int, count: int) -> None:
    """Write the rows of a day as the store does, without merging them."""
    names, places, week = [name_of(number) for number in range(NAMES)], ", ".join("?" * 14), day // 7
    with transaction(store._database):
        hosts = [store._host(f"web{number}") for number in range(HOSTS)]
        askers = [store._asker(f"/usr/bin/worker{number}", "", "", week) for number in range(PROGRAMS)]
        known = [
            [
                (store._text(target, week), store._text(owner, week), rdtype, store._text(name, week))
                for owner, rdtype, target in relations
            ]
            for name, relations in names
        ]
        keys: set[tuple[int, ...]] = set()
        while len(keys) < count:
            number = popular(chosen, NAMES) if chosen.random() < 0.5 else chosen.randrange(NAMES)
            asked = chosen.choice(hosts), chosen.choice(askers)
            keys.update((*relation, *asked) for relation in known[number])
        rows = ((day, *key, at := chosen.randrange(3_200, 83_200), at, at + 300, 1, 0, 0, -1) for key in sorted(keys))
        store._database.executemany(f"INSERT INTO rows VALUES ({places})", rows)
        for host in hosts:
            store._database.execute(_SHARE, (day, host, len(keys) // len(hosts)))
        firsts = [(store._text(name, week), day * DAY + chosen.randrange(DAY), hosts[0], day) for name, _ in names]
        store._database.executemany("INSERT INTO names VALUES (?, ?, ?, ?)", firsts)


def _stored(store: FleetStore, day: int) -> int:
    [found] = store._database.execute("SELECT ifnull(sum(rows), 0) FROM shares WHERE day = ?", (day,)).fetchone()
    return int(found)


def _asked(folder: Path, days: int, noon: int) -> Iterator[Figure]:
    chosen = random.Random(32)
    addresses = [name_of(popular(chosen, NAMES))[1][-1][2] for _ in range(_LOOKUPS)]
    names = [name_of(popular(chosen, NAMES))[0] for _ in range(_LOOKUPS)]
    times = [noon - chosen.randrange(1, days - 1) * DAY + chosen.randrange(-30_000, 30_000) for _ in range(_LOOKUPS)]
    with ExitStack() as stack:
        running, run = stack.enter_context(engine(folder / "engine")), stack.enter_context(run_dir())
        options = ("--engine", running.option("store"), "--folder", folder / "store", "--run-dir", run, *ROOT)
        process = stack.enter_context(started("fleet", "store", *options))
        client = stack.enter_context(closing(LookupClient(fleet_address(run), timeout=10.0)))
        wait_until(lambda: _is_known(client), "the store")
        for what, keys in (("an address", addresses), ("a name", names)):
            yield from _spent(process, f"get, newest 100 of {what}", (_get(client, key=key) for key in keys))
            at = zip(keys, times, strict=True)
            yield from _spent(process, f"get --at, {what}", (_get(client, key=key, at=when) for key, when in at))
        for since in (3_600, 2 * DAY, days * DAY):
            calls = (_call(client, "new", since=noon - since) for _ in range(_TOPS))
            yield from _spent(process, f"new --since {since / 3_600:.0f} h", calls)
        for what in ("hosts", "names", "addresses"):
            yield from _spent(process, f"top {what}", (_call(client, "top", what=what) for _ in range(_TOPS)))


def _is_known(client: LookupClient) -> bool:
    try:
        return bool(client.request("hosts"))
    except DataSourceError:
        return False


def _get(client: LookupClient, **fields: Any) -> Callable[[], object]:
    return _call(client, "get", **fields)


def _call(client: LookupClient, op: str, **fields: Any) -> Callable[[], object]:
    return lambda: client.request(op, **fields)


def _spent(process: subprocess.Popen[str], title: str, calls: Iterable[Callable[[], object]]) -> Iterator[Figure]:
    """Ask, and yield the times of the lookups, and the processor time of the store."""
    passed, used, faults = [], [], 0
    for call in calls:
        cpu, began = _processor(process), time.perf_counter_ns()
        try:
            call()
        except DataNotFound:
            pass
        except DataSourceError:
            faults += 1
        passed.append((time.perf_counter_ns() - began) / 10**6)
        used.append((_processor(process) - cpu) / 10**6)
    if faults:
        title += f" ({faults} of {len(passed)} unanswered)"
    yield from spread(title, passed, "ms", *_SHOWN)
    yield from spread(f"{title}, processor", used, "ms", *_SHOWN)


def _processor(process: subprocess.Popen[str]) -> int:
    """Return the nanoseconds for which the threads of a process have run."""
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    return sum(int(task.joinpath("schedstat").read_text().split()[0]) for task in tasks)


if __name__ == "__main__":
    main()
