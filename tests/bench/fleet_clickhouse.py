"""What the store of a fleet on ClickHouse needs: a row in time and bytes, and its lookups.

The engine runs in a process of its own (deploy/setup-clickhouse.sh). The times are processor time, of both processes.
The rows are those of the section `fleet` of `make bench`, written 256 entries at once, as after an hour of absence.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from figures import Figure, line

from builders.fleet import DAY, NOON, received
from builders.fleet_rows import NAMES, entry_of, name_of, popular
from dnstrail.protocol.lookups import encode_request
from dnstrail_fleet.lookups.answers import answer_lookup
from dnstrail_fleet.lookups.contract import RowReader
from live.clickhouse_server import ClickHouse, ClickHouseRows, clickhouse

_DAYS = 10
_ROWS_OF_ENTRY = 50


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows to write (default: %(default)s)")
    parser.add_argument("--lookups", type=int, default=300, help="lookups of each kind (default: %(default)s)")
    options = parser.parse_args()
    with TemporaryDirectory(dir=Path.cwd()) as name, clickhouse(Path(name, "clickhouse")) as running:
        print(f"load {os.getloadavg()[0]:.1f}")
        for one in measured(running, options.rows, options.lookups):
            print(line(one.title, [one]), flush=True)


def measured(running: ClickHouse, rows: int, lookups: int) -> Iterator[Figure]:
    """Yield the figures of a store with so many rows."""
    chosen, steps, written, used = random.Random(31), list[float](), 0, 0.0
    kept, engine = ClickHouseRows(running, Path()), running.processor_time
    before = engine()
    with closing(kept.open()) as store:
        for day in range(_DAYS):
            while written < rows * (day + 1) // _DAYS:
                sent = (entry_of(chosen, day - _DAYS, _ROWS_OF_ENTRY) for _ in range(store.at_once))
                part = [received(one) for one in sent]
                began, client = _both(running), time.process_time()
                store.write(part, {}, NOON)
                used += time.process_time() - client
                steps.append((_both(running) - began) * 1000)
                written += store.at_once * _ROWS_OF_ENTRY
        yield Figure(f"store, a row of {written:,}", used / written * 1e6, "us")
        yield Figure("engine, a row", (engine() - before) / written * 1e6, "us")
        yield Figure("the longest write of 12,800 rows", max(steps), "ms")
        with closing(running.client(kept.database)) as admin:
            admin.change("OPTIMIZE TABLE dnstrail_rows FINAL")
            statement = "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = {name:String}"
            [(size,)] = admin.select(statement, tuple[int], name=kept.database)
            [(different,)] = admin.select("SELECT count() FROM dnstrail_rows WHERE key = target", tuple[int])
        yield Figure("engine, a row, merges included", (engine() - before) / written * 1e6, "us")
        yield Figure(f"a row of {different:,}", size / different, "bytes")
        with closing(kept.reader()) as reader:
            yield from _of_reader(running, reader, lookups)
        began = _both(running)
        removed = sum(store.remove_old(NOON + (store._days - 5) * DAY))
        yield Figure(f"removing days of {removed:,} rows", (_both(running) - began) * 1000, "ms")


def _of_reader(running: ClickHouse, reader: RowReader, lookups: int) -> Iterator[Figure]:
    chosen = random.Random(32)
    names = [name_of(popular(chosen, NAMES)) for _ in range(lookups)]
    for what, keys in (("an address", [one[1][-1][2] for one in names]), ("a name", [one[0] for one in names])):
        for title, at in (("newest 100 of", None), ("at a time,", NOON - 3 * DAY)):
            fields = {} if at is None else {"at": at}
            times = sorted(_milliseconds(running, reader, "get", key=key, **fields) for key in keys)
            yield Figure(f"get, {title} {what}, median", statistics.median(times), "ms")
            yield Figure(f"get, {title} {what}, p99", times[len(times) * 99 // 100], "ms")
    yield Figure("new", _milliseconds(running, reader, "new", since=NOON - 2 * DAY), "ms")
    for what in ("hosts", "names", "addresses"):
        yield Figure(f"top {what}", _milliseconds(running, reader, "top", what=what), "ms")


def _milliseconds(running: ClickHouse, reader: RowReader, op: str, **fields: object) -> float:
    body, began = encode_request(op, **fields), _both(running)
    answer_lookup(body, reader, NOON, lambda: False)
    return (_both(running) - began) * 1000


def _both(running: ClickHouse) -> float:
    """Return the seconds of processor time of the engine and of this process."""
    return running.processor_time() + time.process_time()


if __name__ == "__main__":
    main()
