"""What the hosts of some rows know of a key: names, addresses, askers and times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from dnstrail.dns.names import address_text
from dnstrail.dns.rdata import PTR
from dnstrail_fleet.lookups.contract import RowReader
from dnstrail_fleet.lookups.reading import FoundRelations, FoundRow
from dnstrail_fleet.lookups.requests import FleetGetRequest
from dnstrail_fleet.lookups.walk import Tied, tied_to

_MOST: Final = (1 << 63) - 1  # as of a sum of `top`: a host may state any counts, and replies have numbers of 64 bits


def known_hosts(
    request: FleetGetRequest,
    rows: Sequence[FoundRow],
    reader: RowReader,
    is_over: Callable[[], bool],
    *,
    all_rows: bool,
) -> tuple[list[dict[str, Any]], bool]:
    """Return what each host of some rows knows of a key, and whether no relation was left out.

    `all_rows` states that no row of the key was left out.
    """
    key, at = request.text, request.at
    by_host: dict[str, list[FoundRow]] = {}
    for row in rows:
        by_host.setdefault(row.host, []).append(row)
    if at is None:
        found = reader.of_answers(rows)
        return [_at_any_time(key, some, found) for some in by_host.values()], not found.cut
    found = reader.related(key, by_host, at, is_over)
    all_rows = all_rows and request.before is None
    return [_then(key, at, some, found, all_rows=all_rows) for some in by_host.values()], not found.cut


def _at_any_time(key: str, rows: list[FoundRow], found: FoundRelations) -> dict[str, Any]:
    """Return what the answers of a host state, whenever they came."""
    return _known(rows, tied_to(key, found.by_host[rows[0].host]), {row.question for row in rows})


def _then(key: str, at: float, rows: list[FoundRow], found: FoundRelations, *, all_rows: bool) -> dict[str, Any]:
    """Return what a host knew at a time. `history` states that nothing else can have been live."""
    host = rows[0].host
    relations = found.by_host[host]
    tied = tied_to(key, relations)
    is_exact = host not in found.cut and tied == tied_to(key, (one for one in relations if one.is_certain))
    forward = [row for row in rows if row.type != PTR]
    question, is_known = _root(key, forward, int(at))
    if any(row.question not in tied.names for row in forward):
        is_exact = is_exact and is_known and all_rows
    return {**_known(rows, tied, {question}), "history": is_exact}


def _root(key: str, rows: list[FoundRow], second: int) -> tuple[str, bool]:
    """Return the question of the last answer that touched a key before the end of a second, and whether that is known.

    It is a name of the key also where its own alias has ended. Reverse records have no root: "".
    """
    own = [row for row in rows if row.owner == row.question == key]
    if own:
        return key, any(row.is_live(second) and not row.doubted for row in own)
    if not rows:
        return "", True
    last = max(rows, key=lambda row: min(row.last, second))
    begin = last.last if last.answers == 1 else last.first
    others = [row for row in rows if row.question != last.question]
    is_last = all(min(row.last, second) < begin for row in others)
    return last.question, is_last and last.is_live(second) is True and not any(row.doubted for row in rows)


def _known(rows: list[FoundRow], tied: Tied, questions: set[str]) -> dict[str, Any]:
    """Return what the rows of one host state about a key."""
    names = {name for name in questions if name and address_text(name) is None}
    askers = {row.asker: row for row in rows}
    return {
        "host": rows[0].host,
        "ip_addresses": sorted(tied.addresses),
        "dns_queries": sorted(tied.names | names),
        "askers": [asker_of(row) for row in askers.values()],
        "first": min(row.first for row in rows),
        "last": max(row.last for row in rows),
        "end": max(row.end for row in rows),
        "answers": min(sum(row.answers for row in rows), _MOST),
        "gaps": min(sum(row.gaps for row in rows), _MOST),
        "doubted": min(sum(row.doubted for row in rows), _MOST),
        "last_connection": max(row.used for row in rows),
    }


def asker_of(row: FoundRow) -> dict[str, str]:
    """Return the asker of a row as replies state it."""
    return {"program": row.program, "container": row.container, "image": row.image}
