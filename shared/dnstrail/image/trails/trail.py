"""Trails: the paths from questions to a key, with their evidence, ranked (docs/trails.md)."""

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
    """One relation of a chain, with its age since the last sighting and its remaining life, both in seconds.

    `remaining` is negative past the TTL. `state` is "live", "grace", or "expired" (still held, past TTL and grace).
    """

    owner: str
    kind: str
    target: str
    age: float
    remaining: float
    count: int
    state: str


class Trail(msgspec.Struct, frozen=True):
    """One path from a question to the key; `steps` is empty where the key itself was asked.

    If the first relations of the path are forgotten, the path counts as expired and `steps` begins at the first one
    still held. `rival` states that another path is likelier. `scope` is the narrowest scope that an asker shares with
    the connection, and `reasons` is the evidence as text. `asked` lists askers and servers, the last asker first.
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
    """The trails to one key: `scope` is the narrowest that matched; `exact` has the meaning that it has in a lookup."""

    key: str
    scope: str
    trails: list[Trail]
    server_names: list[SeenServerName] = []
    truncated: bool = False
    exact: bool = True


def find_trails(
    view: View, key: str, limit: int, connection: Connection, uses: ConnectionHistory, server_names: ServerNameTable
) -> Trails | None:
    """Return all trails to a key, the likeliest first, expired trails included; None if nothing touches the key."""
    found, cut, exact = find_paths(view, key, limit)
    named = server_names.of(key, view.t)
    if not found and not named:
        return None
    ranked = rank(found, key, connection, view.t, uses, server_names)
    scope = min((SCOPES.index(one.scope) for one in ranked), default=len(SCOPES) - 1)
    trails = [
        _trail(view, one, reasons(one, connection.port, view.t), rival=place > 0)
        for place, one in enumerate(ranked[:MAX_TRAILS])
    ]
    return Trails(key, SCOPES[scope], trails, named, cut or len(ranked) > MAX_TRAILS, exact)


def _trail(view: View, ranked: Ranked, reasons: list[str], *, rival: bool) -> Trail:
    path = ranked.path
    first, last = first_and_last(path)
    return Trail(
        dns_root=path.root,
        state=path.state,
        rival=rival,
        scope=ranked.scope,
        reasons=reasons,
        steps=[_step(view, relation) for relation in path.steps],
        first_seen=first,
        last_seen=last,
        asked=askers(path.answers),
    )


def _step(view: View, relation: Relation) -> Step:
    return Step(
        owner=relation.owner,
        kind=relation.kind.name,
        target=relation.target,
        age=view.t - relation.last_seen,
        remaining=relation.ends - view.t,
        count=relation.count,
        state=state(view, relation),
    )
