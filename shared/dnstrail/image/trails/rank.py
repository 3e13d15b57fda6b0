"""The rank of several paths for one connection: the criteria and their reasons (docs/inside/image.md)."""

from __future__ import annotations

from typing import NamedTuple

from dnstrail.connection import Connection
from dnstrail.image.binding.bindings import BY_DAEMON, BY_LAST, BY_PARENT, BY_PROCESS, BY_THREAD, SAID, Meaning
from dnstrail.image.binding.scope import ANY_SCOPE, SCOPES, SOON, led_to, scope_of
from dnstrail.image.bounds import SECOND
from dnstrail.image.trails.path import Path
from dnstrail.image.trails.server_names import ServerNameTable
from dnstrail.image.view import NEVER, View

BOUND = {
    BY_THREAD: "bound to the connection: its thread asked",
    BY_PROCESS: "bound to the connection: the oldest question of its process",
    BY_PARENT: "bound to the connection: the oldest question of the parent process",
    BY_DAEMON: "bound to the connection: the oldest question of a daemon that asks for others",
    BY_LAST: "bound to the connection: the last question of the narrowest scope",
    **{evidence: f"the connection itself sent this server name ({evidence})" for evidence in SAID},
}


class Ranked(NamedTuple):
    """A path with its evidence for one connection. Times are ns.

    `scope` is the place in SCOPES of the narrowest scope that an asker shares with the connection. `answered` is the
    time of the last answer to an asker of that scope. `bound` states how the connection was bound to the question, ""
    if it was not. `named` is the last time at which this client sent the question
    as a server name, or 0. `answers` counts all answers of the path, and `led` the connections to this port that
    followed them. `last_seen` is the time of the last answer, and `number` the number of the answer that arrived last.
    """

    path: Path
    scope: int
    answered: int
    named: int
    answers: int
    led: int
    last_seen: int
    number: int
    bound: str = ""

    def is_fresh(self, at: int) -> bool:
        """Return whether the last answer came at most a second before `at`."""
        return 0 <= at - self.answered <= SOON

    @property
    def doubted(self) -> bool:
        """True if all answers of the path are doubted."""
        return all(record.doubted for record in self.path.records)


def rank(
    paths: list[Path],
    view: View,
    key: str,
    connection: Connection,
    server_names: ServerNameTable,
    meaning: Meaning | None = None,
) -> list[Ranked]:
    """Return the paths to a key as of a view, the likeliest first.

    The criteria in their order: the question to which the connection is bound; forward relations before PTR; not
    doubted; the narrower scope; live before expired; a question whose own answer contains the key; an answer within the
    last second, the later one first; the server name that this client sent to this port last; the most connections to
    this port for each answer; the last question.
    """
    named = server_names.last(key, connection.client, connection.port, view.t)
    ranked = [_evidence(path, view, connection, named.get(path.root.name, 0)) for path in paths]
    if meaning is not None:
        ranked = [one._replace(bound=meaning.by) if one.path.root.name == meaning.name else one for one in ranked]
    return sorted(ranked, key=lambda one: _place(one, view.t), reverse=True) if len(ranked) > 1 else ranked


def reasons(ranked: Ranked, port: int | None, at: int) -> list[str]:
    """Return the evidence for a path, as text for people."""
    reasons = [BOUND[ranked.bound]] if ranked.bound else []
    if ranked.scope != ANY_SCOPE:
        reasons.append(f"asked by the same {SCOPES[ranked.scope]}")
    if ranked.doubted:
        reasons.append("unmatched, and doubted: events were lost")
    if ranked.is_fresh(at):
        reasons.append("answered within the last second")
    if ranked.named:
        reasons.append(f"the client sent this server name {(at - ranked.named) / SECOND:.0f} s before")
    if ranked.led:
        reasons.append(f"{ranked.answers} answers led to {ranked.led} connections to port {port}")
    return [*reasons, f"last answered {(at - ranked.last_seen) / SECOND:.3f} s before"]


def _evidence(path: Path, view: View, connection: Connection, named: int) -> Ranked:
    scope, answered = ANY_SCOPE + 1, NEVER
    answers = led = 0
    last_seen, number = NEVER, 0
    for record in path.records:
        for sighting in view.answers(record):
            shared = scope_of(sighting.evidence, connection)
            if (-shared, sighting.stamp) > (-scope, answered):
                scope, answered = shared, sighting.stamp
            answers += 1
            last_seen, number = max(last_seen, sighting.stamp), max(number, sighting.number)
        older = view.older(record)
        if older is not None:
            answers += older.answers
            last_seen, number = max(last_seen, older.stamp), max(number, older.number)
        led += led_to(record, connection.port or 0, view.at)
    return Ranked(path, min(scope, ANY_SCOPE), answered, named, max(answers, 1), led, last_seen, number)


def _place(one: Ranked, at: int) -> tuple[float, ...]:
    path = one.path
    return (
        bool(one.bound),
        not path.pointer,
        not one.doubted,
        -one.scope,
        path.live,
        path.own,
        one.answered if one.is_fresh(at) else 0,
        one.named,
        one.led / one.answers,
        one.number,
    )
