"""The askers of a question and the servers that answered: the held answers of a root, grouped by asker."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from dnstrail.captured import Process
from dnstrail.dns.names import known_address
from dnstrail.image.bounds import SECOND
from dnstrail.image.evidence import Evidence
from dnstrail.image.record import Sighting

_NOBODY = Process()


class AskedBy(msgspec.Struct, frozen=True, kw_only=True):
    """The client that asked, with its process, and the server that answered. Unknown fields are "" or 0.

    `host` is the host whose probe captured the answer. A reply contains it where the cache follows several hosts.
    """

    client: str
    server: str
    process_id: int
    process_name: str
    executable: str
    container_id: str
    host: str | msgspec.UnsetType = msgspec.UNSET


class Asker(AskedBy, frozen=True, kw_only=True):
    """One client of one server, with the number and times (s) of its answers. Unknown fields are "", 0 or None.

    `matched` states that the queries of all these answers were captured. `foreign` states that the server is none of
    the asker's configured resolvers.
    """

    matched: bool
    foreign: bool | None
    first_seen: float
    last_seen: float
    count: int


def asked_by(evidence: Evidence) -> dict[str, Any]:
    """Return the fields of AskedBy."""
    process = evidence.process or _NOBODY
    return {
        "client": known_address(evidence.client),
        "server": known_address(evidence.server),
        "process_id": process.pid,
        "process_name": process.name,
        "executable": process.path,
        "container_id": process.container_id,
        "host": evidence.host or msgspec.UNSET,
    }


def askers(answers: Iterable[Sighting]) -> list[Asker]:
    """Return the askers of these answers, the last answered asker first."""
    groups: dict[tuple[object, ...], list[Sighting]] = {}
    for answer in answers:
        evidence = answer.evidence
        process = evidence.process or _NOBODY
        key = evidence.host, evidence.client, evidence.server, process.pid, process.name, evidence.foreign
        groups.setdefault(key, []).append(answer)
    return sorted(map(_asker, groups.values()), key=lambda asker: -asker.last_seen)


def _asker(answers: list[Sighting]) -> Asker:
    evidence = answers[0].evidence
    return Asker(
        **asked_by(evidence),
        matched=all(answer.evidence.matched for answer in answers),
        foreign=evidence.foreign,
        first_seen=min(answer.stamp for answer in answers) / SECOND,
        last_seen=max(answer.stamp for answer in answers) / SECOND,
        count=len(answers),
    )
