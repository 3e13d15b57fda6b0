"""The first of the trails of a connection, without its steps and reasons: for many connections at once."""

from __future__ import annotations

from typing import Final, NamedTuple

from dnstrail.captured import Process
from dnstrail.connection import Connection
from dnstrail.dns.tables import Shards
from dnstrail.image.binding.bindings import Meaning
from dnstrail.image.binding.scope import ANY_SCOPE, SCOPES
from dnstrail.image.bounds import SECOND
from dnstrail.image.evidence import Evidence
from dnstrail.image.record import Root, Sighting
from dnstrail.image.result import EXPIRED
from dnstrail.image.trails.path import answers_of, find_paths
from dnstrail.image.trails.rank import Ranked, rank
from dnstrail.image.trails.server_names import ServerNameTable
from dnstrail.image.trails.states import state_of_path
from dnstrail.image.view import View

#: other questions of one connection in a reply to `trail_many` -> the others are left out
RIVALS: Final = 4
_NOBODY: Final = Process()


class Likeliest(NamedTuple):
    """The question of the first trail, its state and scope, the questions of the next trails, and the last asker."""

    name: str
    state: str
    scope: str
    rivals: list[str]
    asker: Process | None


def find_first(
    view: View,
    held: View,
    roots: Shards[Root],
    address: str,
    nodes: int,
    connection: Connection,
    server_names: ServerNameTable,
    meaning: Meaning | None,
) -> Likeliest | None:
    """Return the first trail that `find_trails` returns; None if there is none.

    Trails of reverse records are left out: an address is no name of itself.
    """
    paths = find_paths(view, held, roots, address, nodes).found
    ranked = rank(paths, view, address, connection, server_names, meaning)
    names = [one.path.root.name for one in ranked]
    bound = meaning.name if meaning is not None else ""
    gone = bool(bound) and bound not in names  # the answers to its question were removed
    if gone:
        names.insert(0, bound)
    names = [name for name in names[: RIVALS + 1] if name != address]
    if not names:
        return None
    rivals = list(dict.fromkeys(names))[1:]
    if gone and names[0] == bound:
        return Likeliest(bound, EXPIRED, SCOPES[ANY_SCOPE], rivals, None)
    for one in ranked:
        if one.path.root.name == names[0]:
            state = state_of_path(view, held, one.path)
            return Likeliest(names[0], state, SCOPES[one.scope], rivals, _last_asker(view, one))
    return None


def _last_asker(view: View, ranked: Ranked) -> Process | None:
    """Return the process to which the last answer of a path went: the first one of the `askers` of its trail."""
    answers = answers_of(view, ranked.path)
    if not answers:
        return None
    last = max([_seconds(answer) for answer in answers])
    keys = [asker_key(answer.evidence) for answer in answers if _seconds(answer) == last]
    for answer in answers:
        if asker_key(answer.evidence) in keys:
            break
    return answer.evidence.process


def _seconds(answer: Sighting) -> float:
    """Return the time of an answer as replies show it."""
    return answer.stamp / SECOND


def asker_key(evidence: Evidence) -> tuple[object, ...]:
    """Return what the answers to one asker by one server have in common."""
    process = evidence.process or _NOBODY
    return evidence.host, evidence.client, evidence.server, process.pid, process.name, evidence.foreign
