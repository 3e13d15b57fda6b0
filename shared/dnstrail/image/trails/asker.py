"""The askers of a question and the servers that answered: the answers of a root, grouped by asker."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from dnstrail.captured import Flow, Process
from dnstrail.dns.names import known_address
from dnstrail.image.answer import Answer
from dnstrail.image.trails.connection_history import Actor


class Asker(msgspec.Struct, frozen=True):
    """One client of one server, with the number and the times of its answers. Unknown fields are "", 0 or None.

    `matched` states that the queries of all these answers were captured. `foreign` states that the server is none of
    the asker's configured resolvers.
    """

    client: str
    server: str
    process_id: int
    process_name: str
    executable: str
    container_id: str
    matched: bool
    foreign: bool | None
    first_seen: float
    last_seen: float
    count: int


def askers(answers: Iterable[Answer]) -> list[Asker]:
    """Return the askers of these answers, the one with the last answer first."""
    found: dict[tuple[object, ...], Asker] = {}
    for answer in answers:
        process = answer.process or Process()
        key = client_of(answer), server_of(answer), process.pid, process.name, answer.foreign
        one = found.get(key) or _asker(answer, process)
        found[key] = msgspec.structs.replace(
            one,
            matched=one.matched and answer.matched,
            first_seen=min(one.first_seen, answer.stamp),
            last_seen=max(one.last_seen, answer.stamp),
            count=one.count + 1,
        )
    return sorted(found.values(), key=lambda asker: -asker.last_seen)


def actors_of(answer: Answer) -> list[Actor]:
    """Return who received an answer: the process, its container and the client address, as far as they are known."""
    process = answer.process or Process()
    return [actor for actor in (process.pid, process.container_id, client_of(answer)) if actor]


def client_of(answer: Answer) -> str:
    """Return the address to which an answer was sent, "" if it is unknown."""
    return known_address(answer.flow.destination) if answer.flow else ""


def server_of(answer: Answer) -> str:
    """Return the server that the client meant to ask (before NAT); if that is unknown, the source of the answer."""
    flow = answer.flow
    if flow is None:
        return ""
    return known_address(flow.meant if _is_clients(flow) and flow.meant else flow.source)


def _is_clients(flow: Flow) -> bool:
    """Return whether a response was captured at its client's socket."""
    return bool(flow.socket) and not flow.egress


def _asker(answer: Answer, process: Process) -> Asker:
    return Asker(
        client=client_of(answer),
        server=server_of(answer),
        process_id=process.pid,
        process_name=process.name,
        executable=process.path,
        container_id=process.container_id,
        matched=answer.matched,
        foreign=answer.foreign,
        first_seen=answer.stamp,
        last_seen=answer.stamp,
        count=0,
    )
