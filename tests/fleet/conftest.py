"""The stores of the contract tests: SQLite, and the engine of ClickHouse by `make test-clickhouse`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from live.clickhouse_server import ClickHouseRows, clickhouse
from live.fleet_rows import WANTED, SqliteRows

Kept = SqliteRows | ClickHouseRows


@pytest.fixture(scope="session")
def make_kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], Kept]]:
    """Return what makes the stores of a folder, which are empty at first."""
    if not os.environ.get(WANTED):
        yield SqliteRows
        return
    with clickhouse(tmp_path_factory.mktemp("clickhouse")) as server:
        yield partial(ClickHouseRows, server)


@pytest.fixture
def kept(make_kept: Callable[[Path], Kept], tmp_path: Path) -> Kept:
    """Return the stores of a test, which are empty at first."""
    return make_kept(tmp_path)
