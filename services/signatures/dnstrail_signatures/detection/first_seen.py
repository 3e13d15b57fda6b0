"""Novelty: a subject that was not seen before, once the time to learn what is usual is over."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from dnstrail_signatures.detection.bounded_table import BoundedTable

_SECOND = 1_000_000_000


class FirstSeen:
    """The subjects that were seen, at most `most` of them. Nothing is new within the first `learn` seconds."""

    def __init__(self, most: int, learn: float, known: Iterable[Hashable] = ()) -> None:
        self.table: BoundedTable[Hashable, bool] = BoundedTable(most)
        self._learn = round(learn * _SECOND)
        self._begun: int | None = None
        for subject in known:
            self.table.put(subject, True)

    def is_new(self, subject: Hashable, at: int) -> bool:
        """Note a subject at a time (ns). Return True if it is new, and the time to learn is over."""
        if self._begun is None:
            self._begun = at
        if self.table.get(subject) is not None:
            return False
        self.table.put(subject, True)
        return at - self._begun >= self._learn
