"""The graph: the records by the names and addresses that they relate (docs/inside/image.md)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from dnstrail.dns.rdata import PTR
from dnstrail.dns.tables import PARTS, Shards
from dnstrail.image.record import Record

if TYPE_CHECKING:
    from mypy_extensions import i64

Node = Record | dict[Record, None]  # the records of a node: one, or several with the last answered last
Index = Shards[Node]


class Graph:
    """Three indexes of the same records: by owner, by target of forward relations, and by target of PTR relations.

    PTR relations have an index of their own, because anybody may point a reverse record at any name. No walk reads it.
    """

    def __init__(self) -> None:
        self.out = Shards[Node]()
        self.into = Shards[Node]()
        self.pointed = Shards[Node]()

    def __contains__(self, node: str) -> bool:
        digest: i64 = hash(node)
        part = digest % PARTS
        return node in self.out.parts[part] or node in self.into.parts[part] or node in self.pointed.parts[part]

    def add(self, record: Record) -> None:
        """Add a record, or make it the last answered one at each of its nodes."""
        out, targets = self.out.parts, (self.pointed if record.edges[0][1] == PTR else self.into).parts
        before = ""
        for owner, _, target in record.edges:
            if owner is not before:  # the addresses of a name follow each other
                before = owner
                digest: i64 = hash(owner)
                nodes = out[digest % PARTS]
                if nodes.setdefault(owner, record) is not record:
                    _append(nodes, owner, record)
            digest = hash(target)
            nodes = targets[digest % PARTS]
            if nodes.setdefault(target, record) is not record:
                _append(nodes, target, record)

    def remove(self, record: Record) -> None:
        """Remove a record from all its nodes."""
        out, targets = self.out.parts, (self.pointed if record.edges[0][1] == PTR else self.into).parts
        before = ""
        for owner, _, target in record.edges:
            if owner is not before:
                before = owner
                digest: i64 = hash(owner)
                _remove(out[digest % PARTS], owner, record)
            digest = hash(target)
            _remove(targets[digest % PARTS], target, record)


def newest_first(index: Index, node: str) -> Iterable[Record]:
    """Return the records at a node, the last answered first."""
    digest: i64 = hash(node)
    records = index.parts[digest % PARTS].get(node)
    if records is None:
        return ()
    if isinstance(records, Record):
        return (records,)
    return reversed(records)


def _append(nodes: dict[str, Node], node: str, record: Record) -> None:
    """Make a record the last answered one at a node that has other records."""
    records = nodes[node]
    if isinstance(records, Record):
        nodes[node] = {records: None, record: None}
    elif next(reversed(records)) is not record:
        records.pop(record, None)
        records[record] = None


def _remove(nodes: dict[str, Node], node: str, record: Record) -> None:
    records = nodes.pop(node, None)
    if records is record or records is None:
        return
    if isinstance(records, dict):
        records.pop(record, None)
        if len(records) == 1:
            records = records.popitem()[0]
    nodes[node] = records
