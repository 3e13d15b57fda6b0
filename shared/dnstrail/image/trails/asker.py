"""Who asked a question, and which server answered: the answers of a root, told by asker."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from dnstrail.captured import Flow, Process
from dnstrail.dns.names import packed_address_text
from dnstrail.image.answer import Answer
from dnstrail.image.trails.connection_history import Actor

_LENGTHS = (4, 16)


class Asker(msgspec.Struct, frozen=True):
    """One client of one server, and its answers: when, how often. What is not known is "", 0 or None.

    `matched`: the queries of all these answers were seen. `foreign`: the server is none of those that the asker is
    configured to ask.
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
    """The askers of a question, the last one first."""
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
    """Whom an answer told: the process, its container, and the client address, as far as they are known."""
    process = answer.process or Process()
    return [actor for actor in (process.pid, process.container_id, client_of(answer)) if actor]


def client_of(answer: Answer) -> str:
    """The address to which an answer went, "" if it is not known."""
    return known_address(answer.flow.destination) if answer.flow else ""


def server_of(answer: Answer) -> str:
    """The server that was meant, as its client knows it, else the one whose address the answer bears."""
    flow = answer.flow
    if flow is None:
        return ""
    return known_address(flow.meant if _is_clients(flow) and flow.meant else flow.source)


def known_address(packed: bytes) -> str:
    """An address as text; "" if it is all zero, or none, since its source does not know it."""
    return packed_address_text(packed) if any(packed) and len(packed) in _LENGTHS else ""


def _is_clients(flow: Flow) -> bool:
    """Whether a response was seen at its client's socket."""
    return bool(flow.socket) and not flow.egress


def _asker(answer: Answer, process: Process) -> Asker:
    return Asker(
        client_of(answer),
        server_of(answer),
        process.pid,
        process.name,
        process.path,
        process.container_id,
        answer.matched,
        answer.foreign,
        answer.stamp,
        answer.stamp,
        0,
    )
