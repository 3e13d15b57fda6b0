"""Which of several ways is the likeliest for one connection; each rule has its reason (DESIGN 6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from dnstrail.events import Process
from dnstrail.image.asker import client_of
from dnstrail.image.relation import Kind
from dnstrail.image.root import Answer
from dnstrail.image.server_names import ServerNames
from dnstrail.image.uses import Actor, Use, Uses
from dnstrail.image.way import Way, first_and_last

_NEVER = float("-inf")
SCOPES = ("process", "container", "host", "any")  # from the narrowest on


class Connection(msgspec.Struct, frozen=True):
    """Whose connection a trail is to explain; what is not known is left out.

    `process` is a process id, `container` a container id, `client` an address in canonical text, `port` the server's.
    """

    process: int | None = None
    container: str | None = None
    client: str | None = None
    port: int | None = None


class Known(NamedTuple):
    """What the ways to one key are judged by, as of `at`; `live`: the questions with a way that has not expired."""

    key: str
    at: float
    uses: Uses
    server_names: ServerNames
    live: frozenset[str]


class Ranked(NamedTuple):
    """A way, the narrowest scope in which its question was asked by whoever connects, and what speaks for it."""

    way: Way
    scope: str
    reasons: list[str]


def rank(ways: list[Way], connection: Connection, known: Known) -> list[Ranked]:
    """The ways, the likeliest first.

    Forward relations before PTR; a question of the narrower scope; what has not expired; a question whose own answer
    told of the key. Of these: the question that was answered only just before; the name by which this client called
    this port of the server last, where that was seen; the question whose answers led to most connections to this port,
    for each of them; the last question.
    """
    judged = sorted((_judge(way, connection, known) for way in ways), key=lambda judged: judged[0], reverse=True)
    return [ranked for _, ranked in judged]


def _judge(way: Way, connection: Connection, known: Known) -> tuple[tuple[float, ...], Ranked]:
    scope = scope_of(way, connection)
    use = _use(way, connection, known) or Use()
    called = known.server_names.last(known.key, way.root, connection.client, connection.port, known.at)
    place = (
        not any(step.kind == Kind.PTR for step in way.steps),
        -SCOPES.index(scope),
        way.root in known.live,
        not way.steps or way.root in way.steps[-1].roots,
        use.answered if use.is_fresh(known.at) else _NEVER,
        called or _NEVER,
        use.rate(connection.port),
        max(relation.roots[way.root].message for relation in way.lives),
    )
    return place, Ranked(way, scope, _reasons(way, scope, use, called, connection.port, known.at))


def scope_of(way: Way, connection: Connection) -> str:
    """The narrowest scope in which a question was asked by whoever connects."""
    for scope, matches in _MATCHES.items():
        if any(matches(answer, connection) for answer in way.answers):
            return scope
    return SCOPES[-1]


def _use(way: Way, connection: Connection, known: Known) -> Use | None:
    """What is known of the narrowest actor who used the way."""
    actors: tuple[Actor | None, ...] = connection.process, connection.container, connection.client
    for actor in actors:
        if actor and (use := known.uses.of(actor, known.key).get(way.root)):
            return use
    return None


def _reasons(way: Way, scope: str, use: Use, called: float | None, port: int | None, at: float) -> list[str]:
    reasons = [] if scope == SCOPES[-1] else [f"asked by the same {scope}"]
    if use.is_fresh(at):
        reasons.append("answered only just before")
    if called:
        reasons.append(f"the server was called by this name {at - called:.0f} s before")
    if use.rate(port):
        reasons.append(f"{use.answers} answers led to {use.led[port or 0]} connections to port {port}")
    return [*reasons, f"last answered {at - first_and_last(way)[1]:.3f} s before"]


def _same_process(answer: Answer, connection: Connection) -> bool:
    return answer.process is not None and answer.process.pid == connection.process


def _same_container(answer: Answer, connection: Connection) -> bool:
    return bool(connection.container) and (answer.process or Process()).container_id == connection.container


def _same_host(answer: Answer, connection: Connection) -> bool:
    return bool(connection.client) and client_of(answer) == connection.client


_MATCHES: dict[str, Callable[[Answer, Connection], bool]] = {
    "process": _same_process,
    "container": _same_container,
    "host": _same_host,
}
