"""The ways that lead from questions to a key: live ones, and those that have expired but are remembered."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from dnstrail.image.lookup import chain
from dnstrail.image.relation import Relation
from dnstrail.image.root import Answer
from dnstrail.image.view import View
from dnstrail.image.walk import walk_up

_FOREVER = float("inf")


class Way(NamedTuple):
    """One way: its question, the relations from there to the key, and the answers to the question that are remembered.

    No steps where the key itself was asked. `lives`: the relations that the question brought, of which the way is one.
    """

    root: str
    steps: list[Relation]
    lives: list[Relation]
    answers: list[Answer]


def ways(view: View, key: str, limit: int) -> list[Way]:
    """All ways to a key, one for each question: over live relations where there are such, else over remembered ones."""
    remembered = view.with_grace(_FOREVER)
    found = {way.root: way for way in (*_forward(remembered, key, limit), *_forward(view, key, limit))}
    return [*found.values(), *_pointers(remembered, key)]


def _forward(view: View, key: str, limit: int) -> list[Way]:
    up = walk_up(view, key, limit)
    touching = [relation for node in up.distance for relation in view.touching(node)]
    roots = {root: None for relation in touching for root in relation.roots if root in up.distance}
    return [_way(view, root, chain(view, root, up), [r for r in touching if root in r.roots]) for root in roots]


def _pointers(view: View, key: str) -> list[Way]:
    """The reverse questions that gave an address its names; of a name only where no forward relation touches it."""
    relations = view.names_of(key) or ([] if view.touches(key) else view.addresses_of(key))
    return [_way(view, root, [relation], [relation]) for relation in relations for root in relation.roots]


def _way(view: View, root: str, steps: list[Relation], lives: list[Relation]) -> Way:
    asked = {id(brought.root): brought.root for brought in (relation.roots[root] for relation in lives)}
    answers = [answer for one in asked.values() for answer in one.answers if answer.noted <= view.seen_by]
    return Way(root, steps, lives, sorted(answers, key=lambda answer: answer.stamp))


def first_and_last(way: Way) -> tuple[float, float]:
    """When the question first and last brought what the way needs."""
    brought = [relation.roots[way.root] for relation in _own(way)]
    return min(one.first for one in brought), max(one.last for one in brought)


def _own(way: Way) -> Iterable[Relation]:
    """The steps that the question itself brought; if there is none, all that it brought."""
    return [step for step in way.steps if way.root in step.roots] or way.lives
