"""The paths that lead from questions to a key: live paths, and expired paths that the image still holds."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import NamedTuple

from dnstrail.image.answer import Answer
from dnstrail.image.lookup import nearest_step
from dnstrail.image.relation import Relation
from dnstrail.image.view import View
from dnstrail.image.walk import Walk, walk_up

STATES = LIVE, GRACE, EXPIRED = "live", "grace", "expired"
MAX_STEPS = 32  # of one path; resolvers follow about ten aliases
_FAR = float("inf")


class Path(NamedTuple):
    """One path from a question to the key, with the answers to the question that are still held.

    `steps` is empty where the key itself was asked. If the first relations of the path are forgotten, the path counts
    as expired and `steps` begins at the first one still held. `relations` are all that answers to this question stated
    at the names on the way.
    """

    root: str
    steps: list[Relation]
    relations: list[Relation]
    answers: list[Answer]
    state: str


class Paths(NamedTuple):
    """All paths to a key. `cut` states that a bound left some out; `exact` has the meaning that it has in a View."""

    found: list[Path]
    cut: bool
    exact: bool


def find_paths(view: View, key: str, limit: int) -> Paths:
    """Return one path to the key for each question: over live relations where they suffice, else over held ones."""
    remembered = view.with_history()
    held, live = _Reach(view, remembered, key, limit), _Reach(view, view, key, limit)
    found: dict[str, Path] = {}
    for more in (live.whole, held.whole, live.broken, held.broken):
        found |= more(found)
    every = [*found.values(), *_pointers(view, remembered, key)]
    return Paths(every, held.cut or live.cut, view.exact and remembered.exact)


class _Reach:
    """The names from which the key is reached over `walked`, and the relations at them by question.

    A path that exists only over `walked`, and not over `view`, has expired.
    """

    def __init__(self, view: View, walked: View, key: str, limit: int) -> None:
        self._view, self._walked, self._key = view, walked, key
        self._up = walk_up(walked, key, limit)
        self._stated = _by_root(relation for node in self._up.distance for relation in walked.touching(node))
        self._chain = _chains(walked, self._up)
        self.cut = self._up.cut or any(distance > MAX_STEPS for distance in self._up.distance.values())

    def whole(self, found: Container[str]) -> dict[str, Path]:
        """Return the paths of the questions that lead to the key and are not found yet."""
        near = [root for root in self._stated if root not in found and self._distance(root) <= MAX_STEPS]
        return {root: self._path(root, root, [*self._stated[root]]) for root in near}

    def broken(self, found: Container[str]) -> dict[str, Path]:
        """Return the paths whose answers stated relations on the way, but whose question leads there no longer."""
        lost = (root for root in self._stated if root not in found and root not in self._up.distance)
        leading = {root: [relation for relation in self._stated[root] if self._leads(relation)] for root in lost}
        return {root: self._path(root, self._farthest(rest), rest) for root, rest in leading.items() if rest}

    def _path(self, root: str, start: str, relations: list[Relation]) -> Path:
        steps = self._chain(start)
        ended = self._walked is not self._view or start != root
        state = EXPIRED if ended else _state_of(self._view, steps, relations)
        return Path(root, steps, relations, _answers(self._view, root, relations), state)

    def _farthest(self, relations: list[Relation]) -> str:
        return max((relation.owner for relation in relations), key=self._up.distance.__getitem__)

    def _leads(self, relation: Relation) -> bool:
        on_the_way = relation.owner == self._key or relation.target in self._up.distance
        return on_the_way and self._distance(relation.owner) <= MAX_STEPS

    def _distance(self, name: str) -> float:
        return self._up.distance.get(name, _FAR)


def _by_root(relations: Iterable[Relation]) -> dict[str, dict[Relation, None]]:
    """Return the relations that the answers to each question stated, each relation once."""
    stated: dict[str, dict[Relation, None]] = {}
    for relation in dict.fromkeys(relations):
        for root in relation.roots:
            stated.setdefault(root, {})[relation] = None
    return stated


def _chains(view: View, up: Walk) -> Callable[[str], list[Relation]]:
    """Return `chain` for many names: it finds each step only once."""
    nearest: dict[str, Relation] = {}

    def chain(at: str) -> list[Relation]:
        steps: list[Relation] = []
        while up.distance[at]:
            if at not in nearest:
                nearest[at] = nearest_step(view, at, up)
            steps.append(nearest[at])
            at = nearest[at].target
        return steps

    return chain


def _pointers(view: View, remembered: View, key: str) -> list[Path]:
    """Return the paths over PTR relations; for a name only if no forward relation touches it."""
    relations = remembered.names_of(key) or ([] if view.touches(key) else remembered.addresses_of(key))
    return [
        Path(root, [relation], [relation], _answers(view, root, [relation]), state(view, relation))
        for relation in relations
        for root in relation.roots
    ]


def _answers(view: View, root: str, relations: list[Relation]) -> list[Answer]:
    places = {id(seen.root): seen.root for seen in (relation.roots[root] for relation in relations)}
    answers = [answer for place in places.values() for answer in place.answers if answer.noted <= view.seen_by]
    return sorted(answers, key=lambda answer: answer.stamp)


def _state_of(view: View, steps: list[Relation], relations: list[Relation]) -> str:
    """Return the state of the weakest step, but no better than the best relation that the question itself stated."""
    best = min((state(view, relation) for relation in relations), key=STATES.index)
    return max((best, *(state(view, step) for step in steps)), key=STATES.index)


def state(view: View, relation: Relation) -> str:
    """Return whether a relation is live, past its TTL ("grace"), or past its grace ("expired")."""
    if view.t < relation.ends:
        return LIVE
    return GRACE if view.t < relation.ends + view.grace else EXPIRED


def first_and_last(path: Path) -> tuple[float, float]:
    """Return when answers to the question first and last stated relations of the path."""
    seen = [relation.roots[path.root] for relation in _own(path)]
    return min(one.first for one in seen), max(one.last for one in seen)


def _own(path: Path) -> Iterable[Relation]:
    """Return the steps that the question's own answers stated; without any, everything that they stated."""
    return [step for step in path.steps if path.root in step.roots] or path.relations
