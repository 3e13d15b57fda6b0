"""The paths that lead from questions to a key: live paths, and expired paths whose answers are still held."""

from __future__ import annotations

from typing import NamedTuple

from dnstrail.dns.names import address_text
from dnstrail.dns.rdata import PTR
from dnstrail.dns.tables import Shards
from dnstrail.image.graph import newest_first
from dnstrail.image.lookup import reverse_records
from dnstrail.image.record import Record, Root, Sighting
from dnstrail.image.view import View
from dnstrail.image.walk import Up

#: questions whose paths to one key are ranked -> the last answered ones are ranked, and `truncated` is true
MAX_PATHS = 512
#: steps of one path -> `truncated` is true
MAX_STEPS = 32  # resolvers follow about ten aliases


class Path(NamedTuple):
    """One path from a question to the key.

    `nodes` leads from the question to the key, both included; it is only the key if the key itself was asked.
    `records` contains the answers to the question that state a relation to the key, or all of them if none does. `own`
    states that one does. `live` states that the whole path is live, also by an answer to the question. `pointer` states
    that the path is one reverse record.
    """

    root: Root
    nodes: list[str]
    records: list[Record]
    own: bool
    live: bool
    pointer: bool = False


class Paths(NamedTuple):
    """All paths to a key. `cut` states that a bound left some out."""

    found: list[Path]
    cut: bool


def find_paths(view: View, held: View, roots: Shards[Root], key: str, nodes: int) -> Paths:
    """Return one path to the key for each question: over relations of `view`, else over those of `held`."""
    remembered = Up(held, key, nodes)
    live = Up(view, key, nodes) if held.aged else remembered  # without a relation past its TTL both walks are the same
    found: list[Path] = []
    cut = live.cut or remembered.cut
    for name in remembered.nearer:
        root = roots.get(name)
        if root is None or not (records := _held_records(held, root)):
            continue
        if len(found) == MAX_PATHS:
            cut = True
            break
        chain = (live if name in live.nearer else remembered).chain(name)
        if len(chain) > MAX_STEPS + 1:
            cut = True
            continue
        leading = [record for record in records if _leads(record, key, asked=name == key)]
        alive = name in live.nearer and _is_alive(view, records, key if name == key else "")
        if alive and leading and not _is_alive(view, leading):
            leading = []  # the path is live by another answer
        found.append(Path(root, chain, leading or records, bool(leading), alive))
    return Paths([*found, *_pointers(view, held, key)], cut)


def answers_of(view: View, path: Path) -> list[Sighting]:
    """Return the answers of a path that were noted until the time of a view, without the older ones of a sum."""
    answers: list[Sighting] = []
    for record in path.records:
        answers += view.answers(record)
    return answers


def _leads(record: Record, key: str, *, asked: bool) -> bool:
    """Return whether a record states a relation to the key, or, if the key was asked, a relation of it."""
    for place in record.leading_to(key):
        if record.edges[place][2] == key:
            return True
    return asked and any(record.edges[place][0] == key for place in record.owned_by(key))


def _held_records(held: View, root: Root) -> list[Record]:
    """Return the held records of a root, except PTR records, which have paths of their own."""
    return [record for record in root.records() if record.edges[0][1] != PTR and held.is_live(record)]


def _is_alive(view: View, records: list[Record], node: str = "") -> bool:
    """Return whether a record states a live relation; with a node, one that touches it."""
    for record in records:  # noqa: SIM110 - runs for each path, and a generator costs more than the test
        if view.is_live_at(record, node) if node else view.is_live(record):
            return True
    return False


def _pointers(view: View, held: View, key: str) -> list[Path]:
    """Return the paths over reverse records; a name has some only if no live forward relation touches it."""
    is_address = address_text(key) is not None
    if not is_address and _touches(view, key):
        return []
    found = []
    for record, place, _ in reverse_records(held, key, is_address=is_address):
        owner, _, target = record.edges[place]
        found.append(Path(record.root, [owner, target], [record], True, view.live(record, place) is not None, True))
    return found


def _touches(view: View, node: str) -> bool:
    graph = view.graph
    return any(
        view.is_live_at(record, node) for index in (graph.out, graph.into) for record in newest_first(index, node)
    )
