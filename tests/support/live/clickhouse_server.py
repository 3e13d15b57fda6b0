"""A ClickHouse server of a test: its engine in a process of its own, with TLS and users, over HTTP."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from dnstrail.process.clock import SystemClock
from dnstrail_fleet.clickhouse.address import ClickHouseAddress, parse_clickhouse
from dnstrail_fleet.clickhouse.client import ClickHouseClient
from dnstrail_fleet.clickhouse.reading import ClickHouseReader
from dnstrail_fleet.clickhouse.store import ClickHouseStore
from live.certificate import make_certificate
from live.clickhouse_front import ROOT
from live.namespaces import skip
from live.ports import free_port
from live.processes import PATIENCE

_SCHEDULED = 2  # CPUCLOCK_SCHED of Linux: the processor time of all threads of a process
_FRONT = Path(__file__).with_name("clickhouse_front.py")
_ROWS = """
    SELECT key, day, question, owner, type, target, host, program, container, image, min(first) - day * 86400,
        max(last) - day * 86400, max(until) - day * 86400, max(count), max(gaps), max(doubted),
        if(max(used) = 0, -1, max(used) - day * 86400)
    FROM dnstrail_rows GROUP BY key, day, question, owner, type, target, host, program, container, image"""


class ClickHouse:
    """A server in a folder. It keeps its rows over a restart."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port("127.0.0.1")
        self._process: subprocess.Popen[str] | None = None
        self._numbers = count()
        folder.mkdir(mode=0o700, exist_ok=True)
        make_certificate(folder, "clickhouse.test", "127.0.0.1")
        shutil.copy(folder / "certificate.pem", folder / "ca.pem")
        self.set_password("secret-store")
        (folder / "store.password").write_text("secret-store\n")
        (folder / "store.password").chmod(0o600)

    def set_password(self, password: str) -> None:
        """Give its user a password."""
        (self.folder / "users").write_text(f"store {password}\n")

    def option(self, database: str) -> str:
        """Return the value of `--clickhouse`."""
        files = f"ca={self.folder}/ca.pem,password={self.folder}/store.password"
        return f"clickhouses://store@127.0.0.1:{self.port}/{database},{files}"

    def address(self, database: str) -> ClickHouseAddress:
        """Return the address of a database."""
        return parse_clickhouse(self.option(database))

    def new_database(self) -> str:
        """Make a database, and return its name."""
        name = f"d{next(self._numbers)}"
        with closing(ClickHouseClient(self.address("default"))) as client:
            client.change(f"CREATE DATABASE {name}")
        return name

    def client(self, database: str) -> ClickHouseClient:
        """Return a new connection."""
        return ClickHouseClient(self.address(database))

    def start(self) -> None:
        """Start it, and wait until it answers."""
        if not (ROOT / "chdb").exists():
            skip("no engine of ClickHouse here: deploy/setup-clickhouse.sh installs it")
        command = [sys.executable, str(_FRONT), str(self.port), str(self.folder)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", (self.folder / "log").read_text()

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE)
            self._process.stdout.close()
            self._process = None

    def processor_time(self) -> float:
        """Return the seconds of processor time that it has used."""
        assert self._process is not None
        return time.clock_gettime((~self._process.pid << 3) | _SCHEDULED)


class ClickHouseRows:
    """The stores of one database, and what they hold."""

    def __init__(self, server: ClickHouse, _folder: Path) -> None:
        self._server = server
        self.database = server.new_database()
        self.place = server.option(self.database)

    def open(self, **settings: int) -> ClickHouseStore:
        """Return a store."""
        return ClickHouseStore(self._server.client(self.database), SystemClock(), **settings)

    def reader(self) -> ClickHouseReader:
        """Return what answers lookups."""
        return ClickHouseReader(self._server.client(self.database))

    def rows(self) -> list[tuple[object, ...]]:
        """Return all rows, sorted, with times from the begin of their day. Each has one row for each of its texts."""
        with closing(self._server.client(self.database)) as client:
            keys = client.select(_ROWS, tuple[Any, ...])
        rows = {one[1:] for one in keys}
        assert sorted(keys) == sorted((key, *row) for row in rows for key in {row[1], row[2], row[4]})
        return sorted(rows)

    def hosts(self) -> list[tuple[object, ...]]:
        """Return the columns of hosts."""
        with closing(self.reader()) as reader:
            return reader.hosts()


@contextmanager
def clickhouse(folder: Path) -> Iterator[ClickHouse]:
    """Start a server."""
    found = ClickHouse(folder)
    found.start()
    try:
        yield found
    finally:
        found.stop()
