"""The graph: the records by the names and addresses that they relate (docs/image.md)."""

from __future__ import annotations

from collections.abc import Iterable

from dnstrail.image.kind import PTR
from dnstrail.image.record import Record

Node = Record | dict[Record, None]  # one record, or several, the last answered last
Index = dict[str, Node]


class Graph:
    """Three indexes of the same records: by owner, by target, and by the name to which a reverse record points.

    PTR relations have an index of targets of their own: anybody may point a reverse record at any name, and a lookup
    of that name reads none of them.
    """

    def __init__(self) -> None:
        self.out: Index = {}
        self.into: Index = {}
        self.pointed: Index = {}

    def add(self, record: Record) -> None:
        """Add a record, or make it the last answered one at each of its nodes."""
        targets = self.pointed if record.edges[0][1] == PTR else self.into
        for owner, _, target in record.edges:
            _append(self.out, owner, record)
            _append(targets, target, record)

    def remove(self, record: Record) -> None:
        """Remove a record from all its nodes."""
        targets = self.pointed if record.edges[0][1] == PTR else self.into
        for owner, _, target in record.edges:
            _remove(self.out, owner, record)
            _remove(targets, target, record)


def newest_first(index: Index, node: str) -> Iterable[Record]:
    """Return the records at a node, the last answered first."""
    records = index.get(node)
    if records is None:
        return ()
    if isinstance(records, Record):
        return (records,)
    return reversed(records)


def _append(index: Index, node: str, record: Record) -> None:
    records = index.get(node)
    if records is None:
        index[node] = record
    elif isinstance(records, Record):
        if records is not record:
            index[node] = {records: None, record: None}
    elif next(reversed(records)) is not record:
        records.pop(record, None)
        records[record] = None


def _remove(index: Index, node: str, record: Record) -> None:
    records = index.get(node)
    if records is record:
        del index[node]
    elif isinstance(records, dict) and record in records:
        del records[record]
        if len(records) == 1:
            index[node] = records.popitem()[0]
