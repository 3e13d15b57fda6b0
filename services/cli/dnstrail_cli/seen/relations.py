"""Lives by relation: for people with a bar of their days, as JSON, and as passive DNS (COF)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from ipaddress import ip_address
from typing import Any, Final, NamedTuple, Self

from rich.text import Text

from dnstrail.dns.names import address_text
from dnstrail.dns.rdata import PTR
from dnstrail.history.lives import AskingProgram, RelationLife
from dnstrail.history.rows import Relation
from dnstrail.process.terminal import escape_unprintable
from dnstrail.protocol.facts import type_text

_CELLS: Final = 24  # of a bar
_HEIGHTS: Final = " \u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
_PROGRAMS: Final = 8  # of a relation, those seen last, for people


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


def lines(relations: Sequence[SeenRelation], *, bars: bool) -> Iterator[Text]:
    """Yield relations for people, each with its programs below; bars have all relations on one scale of time."""
    first, last = min(one.times.first for one in relations), max(one.times.last for one in relations)
    if bars:
        yield Text(f"{_moment(first)} {'':{_CELLS}} {_moment(last)}", style="dim")
    for one in relations:
        owner, rdtype, target = one.relation
        if bars:
            yield Text(f"{'':{len(_moment(first))}} {bar(one.lives, first, last)}", style="green")
        yield Text(escape_unprintable(f"{owner} {type_text(rdtype)} {target}"), style="bold")
        for asker, times in [*one.programs.items()][:_PROGRAMS]:
            place = f" in {asker.container}" if asker.container else ""
            user = f" of user {asker.user_id}" if asker.user_id else ""
            who = escape_unprintable(f"{asker.program or 'an unknown program'}{place}{user}")
            yield Text(f"  {_moment(times.first)} to {_moment(times.last)}, {times.answers}x  {who}")
        if len(one.programs) > _PROGRAMS:
            yield Text(f"  and {len(one.programs) - _PROGRAMS} further programs", style="dim")


def bar(lives: Iterable[RelationLife], first: int, last: int) -> str:
    """Return the answers over the time from `first` to `last` as blocks; those of a life are spread over its time."""
    counts = [0.0] * _CELLS
    width = (last - first + 1) / _CELLS
    for life in lives:
        begin, end = int((life.first - first) / width), int((life.last - first) / width)
        for cell in range(begin, end + 1):
            counts[cell] += life.answers / (end + 1 - begin)
    most = max(counts)
    return "".join(_HEIGHTS[-int(-count / most * (len(_HEIGHTS) - 1) // 1)] for count in counts)


def _moment(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M}"
