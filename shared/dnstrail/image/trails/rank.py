"""The likeliest of several paths for one connection; each criterion has its reason (docs/trails.md)."""

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
SCOPES = ("process", "container", "host", "any")  # the narrowest first


class Ranked(NamedTuple):
    """A path with its evidence for one connection.

    `scope` is the narrowest scope that the asker of the question shares with the connection. `use` belongs to the
    narrowest actor of the connection that has one. `named` is the last time at which this client sent the question as
    a server name, None without.
    """

    path: Path
    scope: str
    use: AnswerUse
    named: float | None


def rank(
    paths: list[Path],
    key: str,
    connection: Connection,
    at: float,
    uses: ConnectionHistory,
    server_names: ServerNameTable,
) -> list[Ranked]:
    """Return the paths to a key as of `at`, the likeliest first. `uses` counts until now, whatever `at` is.

    The criteria in their order: forward relations before PTR; the narrower scope; live before expired; a question whose
    own answer contains the key; an answer within the last second; the server name that this client sent to this port
    last; the most connections to this port for each answer; the last question.
    """
    actors = (connection.process, connection.container, connection.client)
    used = ChainMap(*(uses.of(actor, key) for actor in actors if actor))  # the narrowest first
    named = server_names.last(key, connection.client, connection.port, at)
    ranked = [
        Ranked(path, scope_of(path, connection), used.get(path.root) or AnswerUse(), named.get(path.root))
        for path in paths
    ]
    return sorted(ranked, key=lambda one: _place(one, connection.port, at), reverse=True)


def scope_of(path: Path, connection: Connection) -> str:
    """Return the narrowest scope that an asker of the question shares with the connection."""
    for scope, matches in _MATCHES.items():
        if any(matches(answer, connection) for answer in path.answers):
            return scope
    return SCOPES[-1]


def reasons(ranked: Ranked, port: int | None, at: float) -> list[str]:
    """Return the evidence for a path, as text for people."""
    path, scope, use, named = ranked
    reasons = [] if scope == SCOPES[-1] else [f"asked by the same {scope}"]
    if use.is_fresh(at):
        reasons.append("answered within the last second")
    if named:
        reasons.append(f"the client sent this server name {at - named:.0f} s before")
    if use.rate(port):
        reasons.append(f"{use.answers} answers led to {use.led.get(port or 0)} connections to port {port}")
    return [*reasons, f"last answered {at - first_and_last(path)[1]:.3f} s before"]


def _place(ranked: Ranked, port: int | None, at: float) -> tuple[float, ...]:
    path, scope, use, named = ranked
    return (
        not any(step.kind == Kind.PTR for step in path.steps),
        -SCOPES.index(scope),
        path.state != EXPIRED,
        not path.steps or path.root in path.steps[-1].roots,
        use.answered if use.is_fresh(at) else _NEVER,
        named or _NEVER,
        use.rate(port),
        max(relation.roots[path.root].message for relation in path.relations),
    )


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
