"""Repeats: one finding for a subject in a time, however often the evidence comes again."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from dnstrail.signature import SignatureContext
from dnstrail_signatures.detection.bounded_table import BoundedTable
from dnstrail_signatures.detection.state import StatefulSignature

_SECOND = 1_000_000_000


class Once:
    """The subjects that were reported within the last `seconds`, at most `most` of them."""

    def __init__(self, most: int, seconds: float) -> None:
        self.table: BoundedTable[Hashable, int] = BoundedTable(most)
        self._nanoseconds = round(seconds * _SECOND)

    def first(self, subject: Hashable, at: int) -> bool:
        """Return True if a subject was not reported lately, and note that it is reported now (ns)."""
        last = self.table.get(subject)
        if last is not None and abs(at - last) < self._nanoseconds:
            return False
        self.table.put(subject, at)
        return True


class ReportsOnce(StatefulSignature):
    """A signature that reports a subject once in `quiet` seconds, of at most `subjects`: both are in its settings."""

    def init(self, ctx: SignatureContext) -> None:
        """Begin without state."""
        super().init(ctx)
        own: Any = self.settings
        self._once = Once(own.subjects, own.quiet)

    def tables(self) -> tuple[BoundedTable[Any, Any], ...]:
        """Return what was reported."""
        return (self._once.table,)
