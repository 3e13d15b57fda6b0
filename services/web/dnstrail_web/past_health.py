"""Outcomes and latency of a past time, which the history is read for once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from dnstrail.history.log.entries import LoggedQuestion
from dnstrail.history.log.history_log import HistoryLog
from dnstrail.history.log.selection import LogSelection
from dnstrail_web.health import KEPT, MINUTE, Health

#: entries of the history that one request for health reads, the newest first -> the reply has `complete: false`
MOST_ENTRIES: Final = 500_000
#: lengths of a bucket for which past outcomes are kept -> those of the first one are read again
MOST_LENGTHS: Final = 2
_SETTLED: Final = 300.0  # seconds after which the history has what was asked
_SECOND: Final = 1_000_000_000


@dataclass
class _KeptHealth:
    """What was read of a time: [begin, end)."""

    health: Health
    begin: float
    end: float
    is_whole: bool = True


class PastHealth:
    """Reads the history up to the begin of the memory of a worker, and each part of it once. Threads take turns."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, _KeptHealth] = OrderedDict()
        self._turn = threading.Lock()

    def read(self, folder: Path, own: Health, since: float, until: float, now: float) -> tuple[Health, bool]:
        """Return the health of a time, of which `own` has the last minutes; and whether all of it was read.

        Raises:
            OSError, SettingsError, sqlite3.Error: as for `HistoryLog.read`.
        """
        seconds = max(int((until - since) // MINUTE // KEPT) + 1, 1) * MINUTE
        since = since // seconds * seconds
        begin = own.begin
        end = min(begin, until)
        found = Health(seconds, KEPT + 2)
        with self._turn:
            past = self._kept.pop(seconds, None)
            if past is None or not past.begin <= since <= past.end:
                past = _KeptHealth(Health(seconds, KEPT + 2), since, since)
            if end > past.end:
                past.is_whole &= _fill(past.health, folder, past.end, end)
                past.begin, past.end = max(past.begin, end - KEPT * seconds), end
            self._keep(seconds, past, now)
            found.include(past.health, since, until)
        found.include(own, since, until, begin)
        return found, past.is_whole

    def _keep(self, seconds: int, past: _KeptHealth, now: float) -> None:
        if past.end <= now - _SETTLED:
            self._kept[seconds] = past
            if len(self._kept) > MOST_LENGTHS:
                self._kept.popitem(last=False)


def _fill(health: Health, folder: Path, begin: float, end: float) -> bool:
    """Add the questions of a time, and return whether all were read."""
    selection = LogSelection(since=round(begin * _SECOND), until=round(end * _SECOND) - 1)
    with closing(HistoryLog(folder, _warn).backwards(selection)) as entries:
        for count, entry in enumerate(entries):
            if count == MOST_ENTRIES:
                return False
            if isinstance(entry, LoggedQuestion):
                health.add([entry])
    return True


def _warn(text: str) -> None:
    structlog.get_logger().warning("history_incomplete", reason=text)
