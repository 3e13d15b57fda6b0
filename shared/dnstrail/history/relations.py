"""Lives by relation: as JSON, and as passive DNS (COF)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Any, NamedTuple, Self

from dnstrail.dns.names import address_text
from dnstrail.dns.rdata import PTR
from dnstrail.history.first_seen import NewThing
from dnstrail.history.lives import AskingProgram, RelationLife
from dnstrail.history.rows import Relation
from dnstrail.protocol.facts import type_text


class Times(NamedTuple):
    """When something was seen first and last (seconds since the epoch), and how often."""

    first: int
    last: int
    answers: int

    @classmethod
    def of(cls, lives: Sequence[RelationLife]) -> Self:
        """Return the times of some lives."""
        return cls(min(one.first for one in lives), max(one.last for one in lives), sum(one.answers for one in lives))


class SeenRelation(NamedTuple):
    """A relation with its times, also by program, and all its lives."""

    relation: Relation
    times: Times
    programs: dict[AskingProgram, Times]
    lives: list[RelationLife]


def by_relation(lives: Iterable[RelationLife]) -> list[SeenRelation]:
    """Return the relations of lives, those seen last first, and their programs in the same order."""
    grouped: dict[Relation, dict[AskingProgram, list[RelationLife]]] = {}
    for life in lives:
        grouped.setdefault(life.relation, {}).setdefault(life.asker, []).append(life)
    found = []
    for relation, askers in grouped.items():
        times = {asker: Times.of(some) for asker, some in askers.items()}
        programs = dict(sorted(times.items(), key=lambda item: (-item[1].last, item[0])))
        every = [life for some in askers.values() for life in some]
        found.append(SeenRelation(relation, Times.of(every), programs, every))
    return sorted(found, key=lambda one: (-one.times.last, one.relation))


def json_row(seen: SeenRelation) -> dict[str, Any]:
    """Return a relation as a map; times are seconds since the epoch."""
    owner, rdtype, target = seen.relation
    programs = [{**asker._asdict(), **times._asdict()} for asker, times in seen.programs.items()]
    relation = {"owner": owner, "type": type_text(rdtype), "target": target}
    return relation | seen.times._asdict() | {"programs": programs}


def cof_row(seen: SeenRelation) -> dict[str, Any]:
    """Return a relation in the passive DNS common output format (draft-dulaunoy-dnsop-passive-dns-cof)."""
    owner, rdtype, target = seen.relation
    first, last, answers = seen.times
    if rdtype == PTR and address_text(owner):
        owner = ip_address(owner).reverse_pointer
    named = {"rrname": owner, "rrtype": type_text(rdtype), "rdata": target}
    return named | {"time_first": first, "time_last": last, "count": answers}


def new_row(one: NewThing) -> dict[str, Any]:
    """Return something new as a map; its time is in seconds since the epoch."""
    named = {"kind": one.kind, "name": one.name, "first": one.first, **one.program._asdict()}
    return named | {"owner": one.owner} if one.owner else named
