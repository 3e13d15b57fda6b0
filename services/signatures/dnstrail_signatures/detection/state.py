"""Signatures with state: the evictions at its bounds are counted."""

from __future__ import annotations

from typing import Any

from dnstrail.signature import Signature
from dnstrail_signatures.detection.bounded_table import BoundedTable


class StatefulSignature(Signature):
    """A signature whose state lies in bounded tables. `evicted` counts the entries that they gave up."""

    def tables(self) -> tuple[BoundedTable[Any, Any], ...]:
        """Return all tables of the signature."""
        raise NotImplementedError

    @property
    def evicted(self) -> int:
        """The number of entries that gave way at the bounds of the tables."""
        return sum(table.evicted for table in self.tables())
