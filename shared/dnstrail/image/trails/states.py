"""The states of relations and paths, by all answers that are held (docs/inside/image.md)."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from dnstrail.image.graph import newest_first
from dnstrail.image.record import Record, Root
from dnstrail.image.result import EXPIRED, GRACE, LIVE, STATES
from dnstrail.image.trails.path import Path
from dnstrail.image.view import NEVER, View

_ORDER: Final = {state: place for place, state in enumerate(STATES)}  # the best first
Stated = list[tuple[Record, int]]  # records with the place of a relation


def state_of_path(view: View, held: View, path: Path) -> str:
    """Return the worst state of the steps of a path, and of what its own records state."""
    worst = state_of_records(view, path)
    for owner, target in pairwise(path.nodes):
        worst = worse(worst, _best_state(view, stating(view, held, owner, target)))
    return worst


def worse(one: str, other: str) -> str:
    """Return the worse one of two states."""
    return one if _ORDER[one] >= _ORDER[other] else other


def state_of_records(view: View, path: Path) -> str:
    """Return the best state of the relations in the records of a path; if the key was asked, of its own relations."""
    asked = path.nodes[0] if len(path.nodes) == 1 else ""
    stated: Stated = []
    for record in path.records:
        for place, edge in enumerate(record.edges):
            if not asked or asked in (edge[0], edge[2]):
                stated.append((record, place))
    return _best_state(view, stated)


def state_of_answers(view: View, root: Root, address: str) -> str:
    """Return the state of what the held answers of a root state about an address."""
    stated: Stated = []
    for record in root.records():
        for place in record.leading_to(address):
            if record.edges[place][2] == address:
                stated.append((record, place))
    return _best_state(view, stated)


def stating(view: View, held: View, owner: str, target: str) -> Stated:
    """Return the held records that state a relation, each with its place there, the last answered first."""
    stated: Stated = []
    for record in newest_first(view.graph.out, owner):
        for place in record.owned_by(owner):
            edge = record.edges[place]
            if edge[0] == owner and edge[2] == target and held.is_live(record):
                stated.append((record, place))
    return stated


def seen(view: View, record: Record, place: int) -> tuple[int, int, int]:
    """Return the last stamp, the latest end and the number of the answers that state a relation."""
    known = view.answers(record)
    stamp = end = NEVER
    for one in known:
        stamp, end = max(stamp, one.stamp), max(end, one.end(place))
    total, older = record.total, view.older(record)
    if total is None or older is None:
        return stamp, end, len(known)
    return max(stamp, older.stamp), max(end, total.end(place)), len(known) + older.answers


def state_at(view: View, end: int) -> str:
    """Return whether a relation is live, past its TTL ("grace"), or past its grace ("expired")."""
    if view.t < end:
        return LIVE
    return GRACE if view.since < end else EXPIRED


def _best_state(view: View, stated: Stated) -> str:
    """Return the best state of some relations. Most are live by their last answers."""
    for record, place in stated:
        if record.youngest.end(place) > view.t and view.knows_youngest(record):
            return LIVE
    end = NEVER
    for record, place in stated:
        end = max(end, seen(view, record, place)[1])
    return state_at(view, end)
