"""The way from what is stored to what ends now: without a gap, and each entry once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from dnstrail.history.folder import reading
from dnstrail.history.log.entries import LogEntry
from dnstrail.history.log.history_log import HistoryLog
from dnstrail.history.log.selection import EVERYTHING, LogSelection

#: entries that end while `dnstrail log --follow` waits for the history to store the first of them -> it goes on with a
#: warning
MOST_WAITING: Final = 65_536
PATIENCE: Final = 5.0  # seconds for the same: the history is at most a second behind


class Handover:
    """Shows what is stored after a reading until this contains the first entry that came live, then the live ones.

    A subscriber to live entries exists before the first call of `step`.
    """

    def __init__(
        self,
        log: HistoryLog,
        selection: LogSelection,
        show: Callable[[LogEntry], None],
        warn: Callable[[str], None],
    ) -> None:
        self.is_over = False
        self._log = log
        self._accepts = selection.accepts
        self._show = show
        self._warn = warn
        self._stored: set[str] = set()  # the ids of what was read since the live entries came
        self._waiting: list[LogEntry] = []
        self._deadline = float("inf")

    def add(self, entry: LogEntry, now: float) -> None:
        """Take an entry that came live; `now` is monotonic, in seconds."""
        if not EVERYTHING.accepts(entry):
            return
        if self.is_over:
            self._show_once(entry)
            return
        if not self._waiting:
            self._deadline = now + PATIENCE
        self._waiting.append(entry)

    def step(self, now: float) -> None:
        """Show what was stored since the last call, and then what came live if nothing is missing in between.

        Raises:
            SettingsError: the history cannot be read.
        """
        if self.is_over:
            return
        for entry in reading(partial(self._log.read, EVERYTHING)):
            self._stored.add(entry.id)
            if self._accepts(entry):
                self._show(entry)
        is_late = now > self._deadline or max(len(self._waiting), len(self._stored)) > MOST_WAITING
        # The store keeps the order of publication: what waits before one that is stored is stored, too, or excluded.
        if is_late or any(entry.id in self._stored for entry in self._waiting):
            if is_late:
                self._warn("the history does not store what ends now: some entries may be missing")
            self.is_over = True
            for entry in self._waiting:
                self._show_once(entry)
            self._waiting.clear()

    def _show_once(self, entry: LogEntry) -> None:
        if entry.id in self._stored:
            self._stored.discard(entry.id)
        elif self._accepts(entry):
            self._show(entry)
