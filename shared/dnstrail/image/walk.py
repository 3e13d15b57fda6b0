"""Walks over live relations. They visit each node once, so that every walk ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from dnstrail.image.relation import DIRECT
from dnstrail.image.view import View


class Walk(NamedTuple):
    """The nodes that a walk met, nearest first, each with its distance from the start (0).

    `cut` states that the bound on nodes ended the walk early.
    """

    distance: dict[str, int]
    cut: bool = False


def walk_up(view: View, key: str, limit: int) -> Walk:
    """Return every name from which the key is reached."""
    return _walk(key, lambda node: (relation.owner for relation in view.into(node)), limit)


def walk_down(view: View, key: str, limit: int) -> Walk:
    """Return every node that is reached from a name."""
    return _walk(key, lambda node: (relation.target for relation in view.out(node)), limit)


def walk_direct(view: View, key: str, limit: int) -> Walk:
    """Return every node that is reached from a name by address, alias and service-binding relations alone."""
    return _walk(key, lambda node: (r.target for r in view.out(node) if r.kind in DIRECT), limit)


def _walk(start: str, nearby: Callable[[str], Iterable[str]], limit: int) -> Walk:
    distance = {start: 0}
    pending = [start]
    for node in pending:  # the list grows during the loop: breadth first
        for other in nearby(node):
            if other in distance:
                continue
            if len(distance) > limit:
                return Walk(distance, cut=True)
            distance[other] = distance[node] + 1
            pending.append(other)
    return Walk(distance)
