"""Trails: every way from a question to a key, with its evidence, ranked (DESIGN 6)."""

from __future__ import annotations

import msgspec

from dnstrail.connection import Connection
from dnstrail.image.relation import Relation
from dnstrail.image.trails.asker import Asker, askers
from dnstrail.image.trails.connection_history import ConnectionHistory
from dnstrail.image.trails.path import find_paths, first_and_last, state
from dnstrail.image.trails.rank import SCOPES, Ranked, rank, reasons
from dnstrail.image.trails.server_names import SeenServerName, ServerNameTable
from dnstrail.image.view import View

MAX_TRAILS = 100


class Step(msgspec.Struct, frozen=True):
    """One relation of a chain: its age since the last sighting and what remains of its life, in seconds.

    `remaining` is below 0 past the TTL; `state` is "live", "grace", or "expired" (remembered, past TTL and grace).
    """

    owner: str
    kind: str
    target: str
    age: float
    remaining: float
    count: int
    state: str


class Trail(msgspec.Struct, frozen=True):
    """One way from a question to the key; no steps where the key itself was asked.

    Where it is no longer remembered what led away from the question, it has expired, and its steps begin below.
    `rival` says that another way is likelier, `scope` how narrowly the question was asked by whoever connects, and
    `reasons` what speaks for this way. `asked` holds who asked and which server answered, the last one first.
    """

    dns_root: str
    state: str
    rival: bool
    scope: str
    reasons: list[str]
    steps: list[Step]
    first_seen: float
    last_seen: float
    asked: list[Asker]


class Trails(msgspec.Struct, frozen=True):
    """What is known about how a key came about: `scope` is the narrowest one that matched; `exact` as in a lookup."""

    key: str
    scope: str
    trails: list[Trail]
    server_names: list[SeenServerName] = []
    truncated: bool = False
    exact: bool = True


def find_trails(
    view: View, key: str, limit: int, connection: Connection, uses: ConnectionHistory, server_names: ServerNameTable
) -> Trails | None:
    """All ways to a key, the likeliest first, expired ones too; None if nothing that is remembered touches the key."""
    found, cut, exact = find_paths(view, key, limit)
    called = server_names.of(key, view.t)
    if not found and not called:
        return None
    ranked = rank(found, key, connection, view.t, uses, server_names)
    scope = min((SCOPES.index(one.scope) for one in ranked), default=len(SCOPES) - 1)
    trails = [
        _trail(view, one, reasons(one, connection.port, view.t), rival=place > 0)
        for place, one in enumerate(ranked[:MAX_TRAILS])
    ]
    return Trails(key, SCOPES[scope], trails, called, cut or len(ranked) > MAX_TRAILS, exact)


def _trail(view: View, ranked: Ranked, reasons: list[str], *, rival: bool) -> Trail:
    way = ranked.way
    first, last = first_and_last(way)
    steps = [_step(view, relation) for relation in way.steps]
    return Trail(way.root, way.state, rival, ranked.scope, reasons, steps, first, last, askers(way.answers))


def _step(view: View, relation: Relation) -> Step:
    return Step(
        relation.owner,
        relation.kind.name,
        relation.target,
        view.t - relation.last_seen,
        relation.ends - view.t,
        relation.count,
        state(view, relation),
    )
