"""Indexes of relations by their owner and by their target."""

from __future__ import annotations

from dnstrail.image.relation import Edge, Kind, Relation


class Edges:
    """A table of relations that finds them from either end. Both indexes always hold the same relations."""

    __slots__ = ("into", "out")

    def __init__(self) -> None:
        self.out: dict[str, dict[tuple[Kind, str], Relation]] = {}
        self.into: dict[str, dict[Relation, None]] = {}

    def find_or_add(self, edge: Edge) -> Relation:
        """Return the relation of an edge; a new relation has no sighting yet."""
        owner, kind, target, _ = edge
        owned = self.out.get(owner)
        if owned is None:
            owned = self.out[owner] = {}
        relation = owned.get((kind, target))
        if relation is None:
            relation = owned[kind, target] = Relation(owner, kind, target)
            reaching = self.into.get(target)
            if reaching is None:
                reaching = self.into[target] = {}
            reaching[relation] = None
        return relation

    def remove(self, relation: Relation) -> None:
        """Remove a relation from both indexes."""
        owned, reaching = self.out[relation.owner], self.into[relation.target]
        del owned[relation.kind, relation.target]
        del reaching[relation]
        if not owned:
            del self.out[relation.owner]
        if not reaching:
            del self.into[relation.target]
