"""Stores that are killed before they acknowledge, and two at once, end with the rows of an undisturbed run."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from builders.fleet import entry, received, row
from dnstrail_fleet.log.valkey_log import GROUP, PREFIX
from dnstrail_fleet.row import encode_entry
from live.processes import PATIENCE, wait_until
from live.valkey_server import Engine, engine

KILLS = 3
HOSTS = ("web1", "web2", "web3")
NOW = 1_795_000_000  # the store accepts what is older than now
AT = (NOW + 9) * 1000  # the time of the engine, in ms
STORE = """
import os, sys, threading, time
sys.path[:0] = {paths!r}
from pathlib import Path
from dnstrail.process.clock import SystemClock
from dnstrail_fleet.clickhouse.address import parse_clickhouse
from dnstrail_fleet.clickhouse.client import ClickHouseClient
from dnstrail_fleet.clickhouse.store import ClickHouseStore
from dnstrail_fleet.log.engine_address import parse_engine
from dnstrail_fleet.log.valkey_log import ValkeyLog
from dnstrail_fleet.store.store import FleetStore
from dnstrail_fleet.store.worker import run

engine, place, kill = sys.argv[1:]
log = ValkeyLog(parse_engine(engine), time.monotonic, dead=200)
if kill == "kill":
    log.acknowledge = lambda entries: os.kill(os.getpid(), 9)
if place.startswith("clickhouses:"):
    store = ClickHouseStore(ClickHouseClient(parse_clickhouse(place)), SystemClock(), days=100_000)
else:
    store = FleetStore(Path(place), days=100_000)
store.at_once = 8
run(log, store, SystemClock(), threading.Event())
"""


@contextmanager
def storing(running: Engine, place: str, kill: str = "") -> Iterator[subprocess.Popen[str]]:
    """Start a store as a process; `kill` kills it instead of its first acknowledgement."""
    program = textwrap.dedent(STORE).format(paths=[path for path in sys.path if path])
    command = [sys.executable, "-c", program, running.option("store"), place, kill]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_rows_are_those_of_an_undisturbed_run(make_kept: Callable[[Path], Any], tmp_path: Path) -> None:
    """Each entry is stored, doubled, shuffled, killed in between, and with two stores at once."""
    draw, killed, calm = random.Random(29), make_kept(tmp_path / "killed"), make_kept(tmp_path / "calm")
    sent = [
        entry(host, *(row(f"n{draw.randrange(9)}.example", at=at, count=number + 1) for _ in range(3)), sent=at)
        for number in range(20)
        for host in HOSTS
        if (at := NOW + draw.randrange(9))
    ]
    doubled = [*sent, *draw.sample(sent, 20)]
    draw.shuffle(doubled)
    with engine(tmp_path / "engine", *HOSTS) as running:
        with closing(running.client()) as admin:
            for number, one in enumerate(doubled, 1):
                admin.xadd(f"{PREFIX}{one.host}", {"e": encode_entry(one)}, id=f"{AT}-{number}")
        for _ in range(KILLS):
            with storing(running, killed.place, "kill") as process:
                assert process.wait(PATIENCE) == -signal.SIGKILL, process.stderr.read()
        with storing(running, killed.place), storing(running, killed.place), closing(running.client()) as admin:
            wait_until(lambda: all(is_done(admin.xinfo_groups(f"{PREFIX}{host}")) for host in HOSTS), "all entries")
    with closing(calm.open(days=100_000)) as store:
        for one in sent:
            store.write([received(one, late=AT - one.sent)], {}, NOW)
    assert killed.rows() == calm.rows()


def is_done(groups: list[dict[str, object]]) -> bool:
    """Return whether a group has read and acknowledged all entries of a stream."""
    return [(one["lag"], one["pending"]) for one in groups if one["name"] == GROUP.encode()] == [(0, 0)]
