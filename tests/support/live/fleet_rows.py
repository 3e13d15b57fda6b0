"""The stores that the contract is tested with: files of SQLite, or a ClickHouse server (`make test-clickhouse`)."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from builders.fleet import stored_rows
from dnstrail_fleet.lookups.contract import RowReader
from dnstrail_fleet.lookups.server import open_rows
from dnstrail_fleet.store.schema import NAME
from dnstrail_fleet.store.store import FleetStore

WANTED = "DNSTRAIL_CLICKHOUSE"  # set by `make test-clickhouse`


class SqliteRows:
    """The stores of one folder, and what they hold."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.place = str(folder)

    def open(self, **settings: int) -> FleetStore:
        """Return a store."""
        return FleetStore(self.folder, **settings)

    def reader(self) -> RowReader:
        """Return what answers lookups."""
        return open_rows(self.folder / NAME)

    def rows(self) -> list[tuple[object, ...]]:
        """Return all rows, sorted, with times from the begin of their day."""
        return stored_rows(self.folder)

    def hosts(self) -> list[tuple[Any, ...]]:
        """Return the columns of hosts."""
        with closing(self.reader()) as reader:
            return reader.hosts()
