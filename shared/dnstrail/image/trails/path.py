"""The ways that lead from questions to a key: live ones, and those that have expired but are remembered."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import NamedTuple

from dnstrail.image.answer import Answer
from dnstrail.image.lookup import nearest_step
from dnstrail.image.relation import Relation
from dnstrail.image.view import View
from dnstrail.image.walk import Walk, walk_up

STATES = LIVE, GRACE, EXPIRED = "live", "grace", "expired"
MAX_STEPS = 32  # of one way; resolvers follow some ten aliases
_FOREVER = float("inf")


class Path(NamedTuple):
    """One way: its question, the relations from there to the key, and the answers to the question that are remembered.

    No steps where the key itself was asked. Where what led away from the question is no longer remembered, the way has
    expired, and its steps begin below, if there are any. `lives`: what the question brought, of which the way is one.
    """

    root: str
    steps: list[Relation]
    lives: list[Relation]
    answers: list[Answer]
    state: str


class Paths(NamedTuple):
    """All ways; `cut`: there were more than the bounds allow; `exact`: as in a view."""

    found: list[Path]
    cut: bool
    exact: bool


def find_paths(view: View, key: str, limit: int) -> Paths:
    """All ways to a key, one for each question: over live relations where there are such, else over remembered ones."""
    remembered = view.with_history()
    eldest, youngest = _Reach(view, remembered, key, limit), _Reach(view, view, key, limit)
    found: dict[str, Path] = {}
    for told in (youngest.whole, eldest.whole, youngest.broken, eldest.broken):
        found |= told(found)
    every = [*found.values(), *_pointers(view, remembered, key)]
    return Paths(every, eldest.cut or youngest.cut, view.exact and remembered.exact)


class _Reach:
    """The names from which a key is reached over `walked`, and what each question brought of that.

    What is reached only over what is remembered, and not over `view`, has expired.
    """

    def __init__(self, view: View, walked: View, key: str, limit: int) -> None:
        self._view, self._walked, self._key = view, walked, key
        self._up = walk_up(walked, key, limit)
        self._brought = _by_root(relation for node in self._up.distance for relation in walked.touching(node))
        self._chain = _chains(walked, self._up)
        self.cut = self._up.cut or any(distance > MAX_STEPS for distance in self._up.distance.values())

    def whole(self, told: Container[str]) -> dict[str, Path]:
        """The ways of the questions that lead to the key, but for those told already."""
        near = [root for root in self._brought if root not in told and self._distance(root) <= MAX_STEPS]
        return {root: self._way(root, root, [*self._brought[root]]) for root in near}

    def broken(self, told: Container[str]) -> dict[str, Path]:
        """The ways of questions that brought what leads to the key, but lead there no longer themselves."""
        lost = (root for root in self._brought if root not in told and root not in self._up.distance)
        leading = {root: [relation for relation in self._brought[root] if self._leads(relation)] for root in lost}
        return {root: self._way(root, self._farthest(lives), lives) for root, lives in leading.items() if lives}

    def _way(self, root: str, start: str, lives: list[Relation]) -> Path:
        steps = self._chain(start)
        ended = self._walked is not self._view or start != root
        state = EXPIRED if ended else _state_of(self._view, steps, lives)
        return Path(root, steps, lives, _answers(self._view, root, lives), state)

    def _farthest(self, relations: list[Relation]) -> str:
        return max((relation.owner for relation in relations), key=self._up.distance.__getitem__)

    def _leads(self, relation: Relation) -> bool:
        on_the_way = relation.owner == self._key or relation.target in self._up.distance
        return on_the_way and self._distance(relation.owner) <= MAX_STEPS

    def _distance(self, name: str) -> float:
        return self._up.distance.get(name, _FOREVER)


def _by_root(relations: Iterable[Relation]) -> dict[str, dict[Relation, None]]:
    """What each question brought; each relation once."""
    brought: dict[str, dict[Relation, None]] = {}
    for relation in dict.fromkeys(relations):
        for root in relation.roots:
            brought.setdefault(root, {})[relation] = None
    return brought


def _chains(view: View, up: Walk) -> Callable[[str], list[Relation]]:
    """`chain` for many names, each step of which is looked for only once."""
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
    """The reverse questions that gave an address its names; of a name only where no forward relation touches it."""
    relations = remembered.names_of(key) or ([] if view.touches(key) else remembered.addresses_of(key))
    return [
        Path(root, [relation], [relation], _answers(view, root, [relation]), state(view, relation))
        for relation in relations
        for root in relation.roots
    ]


def _answers(view: View, root: str, lives: list[Relation]) -> list[Answer]:
    asked = {id(brought.root): brought.root for brought in (relation.roots[root] for relation in lives)}
    answers = [answer for one in asked.values() for answer in one.answers if answer.noted <= view.seen_by]
    return sorted(answers, key=lambda answer: answer.stamp)


def _state_of(view: View, steps: list[Relation], lives: list[Relation]) -> str:
    """A way is as alive as its weakest step, and no more than the best of what the question itself brought."""
    best = min((state(view, relation) for relation in lives), key=STATES.index)
    return max((best, *(state(view, step) for step in steps)), key=STATES.index)


def state(view: View, relation: Relation) -> str:
    """Whether a relation is live, past its TTL, or past its grace, too."""
    if view.t < relation.ends:
        return LIVE
    return GRACE if view.t < relation.ends + view.grace else EXPIRED


def first_and_last(way: Path) -> tuple[float, float]:
    """When the question first and last brought what the way needs."""
    brought = [relation.roots[way.root] for relation in _own(way)]
    return min(one.first for one in brought), max(one.last for one in brought)


def _own(way: Path) -> Iterable[Relation]:
    """The steps that the question itself brought; if there is none, all that it brought."""
    return [step for step in way.steps if way.root in step.roots] or way.lives
