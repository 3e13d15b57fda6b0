"""Invariants that hold of every image at all times, checked on its internals."""

from __future__ import annotations

from dnstrail.image.edges import Edges
from dnstrail.image.relation import Relation

from dnstrail.image import Image


def assert_consistent(image: Image) -> None:
    """Assert that both indexes hold the same relations and roots, and that the placed roots hold their relations."""
    kept = [*_relations(image.store.forward), *_relations(image.store.pointers)]
    assert image.store.relations == len(kept)
    assert image.store.held == sum(len(relation.roots) for relation in kept) <= image.bounds.most_relations
    assert len(image) <= image.bounds.size
    for relation in kept:
        assert relation.kept, relation.owner
        assert relation.roots, (relation.owner, relation.target)
        assert relation.count >= len(relation.roots)
        assert relation.first_seen <= relation.last_seen <= relation.ends
    ids = set(map(id, kept))
    for name, root in image.store.roots.items():
        assert root.name == name
        assert root.relations, name
        for relation in root.relations:
            assert id(relation) in ids, (name, relation.owner, relation.target)
            assert name in relation.roots


def _relations(edges: Edges) -> list[Relation]:
    outward = [relation for owned in edges.out.values() for relation in owned.values()]
    inward = [relation for reaching in edges.into.values() for relation in reaching]
    assert set(map(id, outward)) == set(map(id, inward))
    assert len(outward) == len(inward)
    for owner, owned in edges.out.items():
        assert owned, owner
        assert all(r.owner == owner and (r.kind, r.target) == place for place, r in owned.items())
    for target, reaching in edges.into.items():
        assert reaching, target
        assert all(relation.target == target for relation in reaching)
    return outward
