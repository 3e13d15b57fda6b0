"""A folder of the history as the store writes it: a shop behind an alias, seen by two programs on three days."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from builders.facts import CURL, SECOND, fact_of, progress_of
from dnstrail.captured import Process
from dnstrail_history.store.store import FactStore
from live.workers import FakeClock

FIREFOX = Process(8, "firefox", "/usr/lib/firefox/firefox")
RELATIONS = (("www.shop.example", 5, "shop.cdn.example", 300), ("shop.cdn.example", 1, "203.0.113.7", 60))
LOOKUPS = ((3, 9, 12, FIREFOX), (24, 13, 59, CURL), (24, 14, 2, CURL), (25, 8, 30, FIREFOX))


def keep_shop(folder: Path) -> None:
    """Store the lookups of November 2026."""
    with closing(FactStore(folder, FakeClock(wall=datetime(2026, 11, 29, tzinfo=UTC).timestamp()))) as store:
        for number, (day, hour, minute, process) in enumerate(LOOKUPS):
            ended = int(datetime(2026, 11, day, hour, minute, tzinfo=UTC).timestamp()) * SECOND
            store.add(fact_of(number, ended=ended, process=process, relations=RELATIONS))
        if not store.commit(progress_of(1)):
            raise AssertionError(store.fault)
