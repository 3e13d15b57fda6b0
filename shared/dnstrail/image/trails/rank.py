"""Which of several ways is the likeliest for one connection; each rule has its reason (DESIGN 6)."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable
from typing import NamedTuple

from dnstrail.captured import Process
from dnstrail.connection import Connection
from dnstrail.image.answer import Answer
from dnstrail.image.relation import Kind
from dnstrail.image.trails.asker import client_of
from dnstrail.image.trails.connection_history import AnswerUse, ConnectionHistory
from dnstrail.image.trails.path import EXPIRED, Path, first_and_last
from dnstrail.image.trails.server_names import ServerNameTable

_NEVER = float("-inf")
_NOBODY = Process()
SCOPES = ("process", "container", "host", "any")  # from the narrowest on


class Ranked(NamedTuple):
    """A way, the narrowest scope in which its question was asked by whoever connects, and what speaks for it.

    `use`: what the narrowest actor of whom that is known did with the answers. `called`: when the server was last
    called by this name.
    """

    way: Path
    scope: str
    use: AnswerUse
    called: float | None


def rank(
    ways: list[Path],
    key: str,
    connection: Connection,
    at: float,
    uses: ConnectionHistory,
    server_names: ServerNameTable,
) -> list[Ranked]:
    """The ways to a key as of `at`, the likeliest first; what `uses` tells is as it is now.

    Forward relations before PTR; a question of the narrower scope; what has not expired; a question whose own answer
    told of the key. Of these: the question that was answered only just before; the name by which this client called
    this port of the server last, where that was seen; the question whose answers led to most connections to this port,
    for each of them; the last question.
    """
    actors = (connection.process, connection.container, connection.client)
    used = ChainMap(*(uses.of(actor, key) for actor in actors if actor))  # the narrowest first
    called = server_names.last(key, connection.client, connection.port, at)
    ranked = [
        Ranked(way, scope_of(way, connection), used.get(way.root) or AnswerUse(), called.get(way.root)) for way in ways
    ]
    return sorted(ranked, key=lambda one: _place(one, connection.port, at), reverse=True)


def _place(ranked: Ranked, port: int | None, at: float) -> tuple[float, ...]:
    way, scope, use, called = ranked
    return (
        not any(step.kind == Kind.PTR for step in way.steps),
        -SCOPES.index(scope),
        way.state != EXPIRED,
        not way.steps or way.root in way.steps[-1].roots,
        use.answered if use.is_fresh(at) else _NEVER,
        called or _NEVER,
        use.rate(port),
        max(relation.roots[way.root].message for relation in way.lives),
    )


def scope_of(way: Path, connection: Connection) -> str:
    """The narrowest scope in which a question was asked by whoever connects."""
    for scope, matches in _MATCHES.items():
        if any(matches(answer, connection) for answer in way.answers):
            return scope
    return SCOPES[-1]


def reasons(ranked: Ranked, port: int | None, at: float) -> list[str]:
    """What speaks for a way, for people."""
    way, scope, use, called = ranked
    told = [] if scope == SCOPES[-1] else [f"asked by the same {scope}"]
    if use.is_fresh(at):
        told.append("answered only just before")
    if called:
        told.append(f"the server was called by this name {at - called:.0f} s before")
    if use.rate(port):
        told.append(f"{use.answers} answers led to {use.led.get(port or 0)} connections to port {port}")
    return [*told, f"last answered {at - first_and_last(way)[1]:.3f} s before"]


def _same_process(answer: Answer, connection: Connection) -> bool:
    return bool(connection.process) and (answer.process or _NOBODY).pid == connection.process


def _same_container(answer: Answer, connection: Connection) -> bool:
    return bool(connection.container) and (answer.process or _NOBODY).container_id == connection.container


def _same_host(answer: Answer, connection: Connection) -> bool:
    return bool(connection.client) and client_of(answer) == connection.client


_MATCHES: dict[str, Callable[[Answer, Connection], bool]] = {
    "process": _same_process,
    "container": _same_container,
    "host": _same_host,
}
