"""Kill the primary of the fleet's engine (-9) again and again while hosts send: seconds without writes, and losses."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from builders.fleet import entry, row
from dnstrail_fleet.log.contract import LogUnavailableError
from dnstrail_fleet.log.valkey_log import MOST_UNSURE, ValkeyLog
from dnstrail_fleet.row import encode_entry
from live.processes import PATIENCE
from live.sentinels import Watched, watched

EVERY = 1.0  # seconds between two entries of a host, and after a failure, as a sender has them
STEADY = 4.0  # seconds of writes before a kill
DOWN_AFTER = 2_000  # ms, as in deploy/valkey/sentinel.conf
PRIORITY = 10  # of servers and sentinels above the hosts: they have machines of their own (as root)


class Host(threading.Thread):
    """A host that appends numbered entries, and again those that the engine did not take."""

    def __init__(self, pair: Watched, name: str, body: bytes, stop: threading.Event) -> None:
        super().__init__()
        self.name = name
        self.acknowledged = 0  # entries; the numbers are those below
        self.last = 0.0  # when the last one was
        self.log = ValkeyLog(pair.address(name), time.monotonic, most=MOST_UNSURE + 8)
        self._body = body
        self._stop_signal = stop

    def run(self) -> None:
        """Append until the stop signal is set."""
        os.nice(PRIORITY)
        with closing(self.log):
            while not self._stop_signal.wait(EVERY):
                with suppress(LogUnavailableError):
                    self.log.append(b"%d %b" % (self.acknowledged, self._body))
                    self.acknowledged += 1
                    self.last = time.monotonic()


class Reader(threading.Thread):
    """The store's side of the log: it counts how often each entry came."""

    def __init__(self, pair: Watched, stop: threading.Event) -> None:
        super().__init__()
        self.found: Counter[tuple[str, int]] = Counter()
        self.trimmed = 0
        self._log = ValkeyLog(pair.address("store"), time.monotonic)
        self._stop_signal = stop

    def run(self) -> None:
        """Read until the stop signal is set."""
        os.nice(PRIORITY)
        with closing(self._log):
            while not self._stop_signal.wait(0.02):
                with suppress(LogUnavailableError):
                    entries = self._log.read(1024)
                    self.found.update((one.host, int(one.body.partition(b" ")[0])) for one in entries)
                    self._log.acknowledge(entries)
                    self.trimmed = sum(one.trimmed for one in self._log.lag().values())


def main() -> int:
    """Kill, and print the figures; return 1 if an acknowledged entry is lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="(default %(default)s)")
    parser.add_argument("--hosts", type=int, default=125, help="with an entry a second each (default %(default)s)")
    parser.add_argument("--rows", type=int, default=200, help="rows of an entry (default %(default)s)")
    given = parser.parse_args()
    with sending(given.hosts, given.rows) as (pair, hosts, reader):
        begin = time.monotonic()
        first: list[float] = []
        every: list[float] = []
        away = 0.0
        for number in range(given.kills):
            primary = pair.repair()
            wait_for_writes(hosts, time.monotonic())
            time.sleep(STEADY)
            primary.kill()
            killed = time.monotonic()
            first.append(wait_for_writes(hosts, killed, most=1) - killed)
            every.append(wait_for_writes(hosts, killed) - killed)
            away += first[-1]
            repeated = sum(one.log.repeated for one in hosts)
            print(f"{number + 1}: {first[-1]:.2f} s, all {every[-1]:.2f} s, repeated {repeated}", flush=True)
        seconds = time.monotonic() - begin - away
        sent = sum(one.acknowledged for one in hosts)
        end = time.monotonic() + PATIENCE
        while len(reader.found) < sum(one.acknowledged for one in hosts) and time.monotonic() < end:
            time.sleep(0.1)
    expected = {(one.name, number) for one in hosts for number in range(one.acknowledged)}
    lost = len(expected - reader.found.keys())
    print(f"{given.kills} kills (-9), {given.hosts} hosts, {given.rows} rows an entry; load {os.getloadavg()[0]:.1f}")
    print(f"rows a second while they were written: {sent * given.rows / seconds:,.0f}")
    for name, values in (("first write", first), ("write of each host", every)):
        values.sort()
        p50, p99 = (values[int(share * (len(values) - 1) + 0.5)] for share in (0.5, 0.99))
        print(f"seconds from a kill until the {name}: p50 {p50:.2f}, p99 {p99:.2f}, longest {values[-1]:.2f}")
    print(f"entries acknowledged {len(expected):,}; lost by an engine and appended again {repeated}; lost {lost}")
    print(f"came twice {sum(reader.found.values()) - len(reader.found)}; trimmed unread {reader.trimmed}")
    return int(lost > 0)


@contextmanager
def sending(count: int, rows: int) -> Iterator[tuple[Watched, list[Host], Reader]]:
    """Start an engine, hosts and a reader."""
    names, now = [f"host{number}" for number in range(count)], int(time.time())
    with suppress(PermissionError):
        os.nice(-PRIORITY)  # that of this thread, and of what it starts
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dt-")))
        pair = stack.enter_context(watched(folder, *names, down_after=DOWN_AFTER))
        stop = threading.Event()
        hosts = [
            Host(pair, name, encode_entry(entry(name, *(row(f"n{at}.example", at=now) for at in range(rows)))), stop)
            for name in names
        ]
        reader = Reader(pair, stop)
        threads = (reader, *hosts)
        for one in threads:
            one.start()
        try:
            yield pair, hosts, reader
        finally:
            stop.set()
            for one in threads:
                one.join()


def wait_for_writes(hosts: list[Host], since: float, most: int | None = None) -> float:
    """Wait until so many hosts have written since a time; return when the last one of them had.

    Raises:
        TimeoutError: They did not.
    """
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        written = sorted(one.last for one in hosts if one.last > since)
        if len(written) >= (most or len(hosts)):
            return written[0] if most else time.monotonic()
        time.sleep(0.005)
    raise TimeoutError("the hosts do not write")


if __name__ == "__main__":
    sys.exit(main())
