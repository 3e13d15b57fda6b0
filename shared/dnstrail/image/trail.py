"""The ways that lead from questions to a key, with the life of every step: the start of DESIGN 6."""

from __future__ import annotations

import msgspec

from dnstrail.image.lookup import chain, find_root
from dnstrail.image.relation import Relation
from dnstrail.image.view import View
from dnstrail.image.walk import walk_up

MAX_TRAILS = 100


class Step(msgspec.Struct, frozen=True):
    """One relation of a chain: its age since the last sighting and what remains of its life, in seconds."""

    owner: str
    kind: str
    target: str
    age: float
    remaining: float
    count: int
    state: str


class Trail(msgspec.Struct, frozen=True):
    """One way from a query root to the key; no steps where the key itself was asked."""

    dns_root: str
    steps: list[Step]
    first_seen: float
    last_seen: float


def trails(view: View, key: str, limit: int) -> list[Trail]:
    """Every root from which a live chain leads to the key: the root of the lookup first, then the newest."""
    up = walk_up(view, key, limit)
    found = [
        _trail(view, root, chain(view, root, up)) for root in _roots(view, list(up.distance)) if root in up.distance
    ]
    likeliest = find_root(view, key)
    found.sort(key=lambda trail: (trail.dns_root != likeliest, -trail.last_seen, trail.dns_root))
    return found[:MAX_TRAILS]


def _roots(view: View, nodes: list[str]) -> dict[str, None]:
    """The questions that brought any live relation out of or to the nodes, first come first."""
    return {root: None for node in nodes for relation in view.touching(node) for root in relation.roots}


def _trail(view: View, root: str, steps: list[Relation]) -> Trail:
    told = [brought for r in [*steps, *view.out(root)] for name, brought in r.roots.items() if name == root]
    return Trail(
        root,
        [_step(view, relation) for relation in steps],
        min((brought.first for brought in told), default=view.t),
        max((brought.last for brought in told), default=view.t),
    )


def _step(view: View, relation: Relation) -> Step:
    remaining = relation.ends - view.t
    return Step(
        relation.owner,
        relation.kind.name,
        relation.target,
        view.t - relation.last_seen,
        max(remaining, 0.0),
        relation.count,
        "live" if remaining > 0 else "grace",
    )
