"""Trails: the paths from questions to a key, with their evidence, ranked (docs/inside/image.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, reduce
from itertools import pairwise

import msgspec

from dnstrail.connection import Connection
from dnstrail.dns.rdata import Kind
from dnstrail.dns.tables import Shards
from dnstrail.image.binding.bindings import Meaning
from dnstrail.image.binding.scope import ANY_SCOPE, SCOPES
from dnstrail.image.bounds import SECOND
from dnstrail.image.evidence import AskedBy, asked_by
from dnstrail.image.record import Root, Sighting
from dnstrail.image.result import EXPIRED
from dnstrail.image.trails.first import asker_key
from dnstrail.image.trails.path import answers_of, find_paths
from dnstrail.image.trails.rank import BOUND, Ranked, rank, reasons
from dnstrail.image.trails.server_names import SeenServerName, ServerNameTable
from dnstrail.image.trails.states import seen, state_at, state_of_records, stating, worse
from dnstrail.image.view import NEVER, View

MAX_TRAILS = 100  #: paths in one trail (`limit` of a request) -> `truncated` is true


class Step(msgspec.Struct, frozen=True):
    """One relation of a path, with its age since the last answer and its remaining life, both in seconds.

    `remaining` is negative past the TTL. `state` is "live", "grace", or "expired" (still held, past TTL and grace).
    """

    owner: str
    kind: str
    target: str
    age: float
    remaining: float
    count: int
    state: str


class Asker(AskedBy, frozen=True, kw_only=True):
    """One client of one server, with the number and times (s) of its answers. Unknown fields are "", 0 or None.

    `matched` states that the queries of all these answers were captured. `foreign` states that the server is none of
    the asker's configured resolvers.
    """

    matched: bool
    foreign: bool | None
    first_seen: float
    last_seen: float
    count: int


class Trail(msgspec.Struct, frozen=True):
    """One path from a question to the key; `steps` is empty if the key itself was asked, or its answers were removed.

    `rival` states that another path is likelier. `scope` is the narrowest scope that an asker shares with the
    connection, and `reasons` is the evidence as text. `asked` lists askers and servers, the last asker first. `doubted`
    states that the answers match no query, and count because events were lost.
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
    doubted: bool = False


class Trails(msgspec.Struct, frozen=True):
    """The trails to one key. `scope` is the narrowest one of them; `history` means the same as in a lookup."""

    key: str
    scope: str
    trails: list[Trail]
    server_names: list[SeenServerName] = []
    truncated: bool = False
    history: bool = True


def find_trails(
    view: View,
    held: View,
    roots: Shards[Root],
    key: str,
    nodes: int,
    connection: Connection,
    server_names: ServerNameTable,
    limit: int = MAX_TRAILS,
    meaning: Meaning | None = None,
) -> Trails | None:
    """Return the trails to a key, the likeliest first, with expired ones; None if nothing touches the key.

    `meaning` is the name of the connection to explain, if it is known. It has a trail even if its answers were removed.
    """
    found, cut = find_paths(view, held, roots, key, nodes)
    named = [] if view.host else server_names.of(key, view.t)  # the table names no host
    if not found and not named and meaning is None:
        return None
    ranked = rank(found, view, key, connection, server_names, meaning)
    scope = min((one.scope for one in ranked), default=ANY_SCOPE)
    step = cache(lambda owner, target: _step(view, held, owner, target))  # many trails share their last steps
    gone = [_bound_trail(meaning)] if meaning is not None and not any(one.bound for one in ranked) else []
    shown = enumerate(ranked[: limit - len(gone)], len(gone))
    trails = gone + [_trail(view, step, one, connection.port, rival=place > 0) for place, one in shown]
    cut = cut or len(ranked) + len(gone) > limit
    return Trails(key, SCOPES[scope], trails, named, cut, view.certain and held.certain)


def _trail(view: View, step: Callable[[str, str], Step], ranked: Ranked, port: int | None, *, rival: bool) -> Trail:
    path = ranked.path
    answers = answers_of(view, path)
    steps = [step(owner, target) for owner, target in pairwise(path.nodes)]
    stamps = [answer.stamp for answer in answers]
    totals = [record.total for record in path.records if record.total is not None]
    first = [] if view.host else [one.first for one in totals if view.at is None or one.first_noted <= view.at]
    return Trail(
        dns_root=path.root.name,
        state=reduce(worse, (step.state for step in steps), state_of_records(view, path)),
        rival=rival,
        scope=SCOPES[ranked.scope],
        reasons=reasons(ranked, port, view.t),
        steps=steps,
        first_seen=min(stamps + first) / SECOND,
        last_seen=ranked.last_seen / SECOND,
        asked=askers(answers),
        doubted=ranked.doubted,
    )


def _bound_trail(meaning: Meaning) -> Trail:
    """Return the trail of a name without held answers."""
    seen = meaning.stamp / SECOND
    return Trail(meaning.name, EXPIRED, False, SCOPES[ANY_SCOPE], [BOUND[meaning.by]], [], seen, seen, [])


def _step(view: View, held: View, owner: str, target: str) -> Step:
    """Return the relation between two nodes, by all held answers that the view knows."""
    kind, stamp, end, count = 0, NEVER, NEVER, 0
    for record, place in stating(view, held, owner, target):
        known = seen(view, record, place)
        kind = kind or record.edges[place][1]
        stamp, end, count = max(stamp, known[0]), max(end, known[1]), count + known[2]
    return Step(
        owner=owner,
        kind=Kind(kind).name,
        target=target,
        age=(view.t - stamp) / SECOND,
        remaining=(end - view.t) / SECOND,
        count=count,
        state=state_at(view, end),
    )


def askers(answers: Iterable[Sighting]) -> list[Asker]:
    """Return the askers of these answers, the last answered asker first."""
    groups: dict[tuple[object, ...], list[Sighting]] = {}
    for answer in answers:
        groups.setdefault(asker_key(answer.evidence), []).append(answer)
    return sorted(map(_asker, groups.values()), key=lambda asker: -asker.last_seen)


def _asker(answers: list[Sighting]) -> Asker:
    evidence = answers[0].evidence
    return Asker(
        **asked_by(evidence),
        matched=all(answer.evidence.matched for answer in answers),
        foreign=evidence.foreign,
        first_seen=min(answer.stamp for answer in answers) / SECOND,
        last_seen=max(answer.stamp for answer in answers) / SECOND,
        count=len(answers),
    )
