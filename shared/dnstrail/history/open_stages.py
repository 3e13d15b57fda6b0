"""The stages of the connections that are open at a time, as one segment states them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from dnstrail.captured import LAST_TIME
from dnstrail.history.fact import FactId, StageFact
from dnstrail.history.rows import read_some_stages, read_stages, rows

#: connections that a segment states that were open at its begin -> those opened first are left out, and `connections`
#: of a time in this segment has `history` false
MOST_CARRIED: Final = 8192
_STEPS: Final = "SELECT id, start, batch, place, stage FROM {table} WHERE time <= ? {chosen} ORDER BY id"
_ENDING: Final = "SELECT id FROM stages WHERE stage = 'end' OR ifnull(connected, 1) = 0"
_TO: Final = "AND path IN (SELECT id FROM paths WHERE destination = ?)"
_Identity = tuple[int, int, int]  # start, batch and place
_TABLES: Final = ("carried", "connections")


class OpenStages(NamedTuple):
    """The stages of connections that have not ended in a segment, and the ids of those that have.

    `restarted` is the last time (ns) at which another run of the cache began, 0 without one: nobody states the ends of
    the connections that were opened before.
    """

    stages: dict[FactId, list[StageFact]]
    ended: set[FactId]
    restarted: int


class Carried(NamedTuple):
    """The stages of the connections that are open at the end of a segment. `whole` states that none is missing."""

    stages: Sequence[StageFact] = ()
    whole: bool = False


def open_stages(
    database: sqlite3.Connection, until: int = LAST_TIME, address: bytes | None = None, *, carried: bool
) -> OpenStages:
    """Return the stages of the connections that are open at a time (ns), to an address if one is named.

    `carried`: also those that were open at the begin of the segment.

    Raises:
        BAD_CONTENTS, sqlite3.Error: The segment cannot be read.
    """
    values = (until,) if address is None else (until, address)
    ending = {number for (number,) in database.execute(_ENDING)}
    found: dict[_Identity, list[tuple[str, int]]] = {}
    ended: set[_Identity] = set()
    for table in _TABLES if carried and _has_carried(database) else _TABLES[1:]:
        statement = _STEPS.format(table=table, chosen="" if address is None else _TO)
        for number, start, batch, place, stage in database.execute(statement, values):
            identity = start, batch, place
            if stage in ending:
                ended.add(identity)
                found.pop(identity, None)
            elif identity not in ended:
                found.setdefault(identity, []).append((table, number))
    places = [place for some in found.values() for place in some]
    stages: dict[FactId, list[StageFact]] = {}
    for table in _TABLES:
        for one in read_some_stages(database, table, [number for name, number in places if name == table]):
            stages.setdefault(one.id, []).append(one)
    restarted = max((time for time in restarts_of(database) if time <= until), default=0)
    kept = {identity: some for identity, some in stages.items() if begin_of(some[0]) > restarted}
    starts: dict[int, str] = dict(rows(database, "starts"))
    return OpenStages(kept, {FactId(starts[start], batch, place) for start, batch, place in ended}, restarted)


def has_gap(begins: Iterable[int], restarted: int, until: int) -> bool:
    """Return whether facts were lost before a time, by the begins of the stretches of a segment and of later ones.

    What was lost before the last restart does not count. A cache that has heard no probe has no time.
    """
    return len({since for since in begins if restarted < since <= until}) > 1


def states_all(database: sqlite3.Connection) -> bool:
    """Return whether a segment states all connections that were open at its begin; one of version 1 states none."""
    found = database.execute("SELECT whole FROM carryover").fetchone() if _has_carried(database) else None
    return found is not None and bool(found[0])


def carried_from(database: sqlite3.Connection) -> Carried:
    """Return what the next segment states about the connections that are open at the end of this one.

    Raises:
        BAD_CONTENTS, sqlite3.Error: The segment cannot be read.
    """
    found = open_stages(database, carried=True)
    begins = [msgspec.convert(row[1], int) for row in rows(database, "coverage")]
    known = (states_all(database) or found.restarted > 0) and not has_gap(begins, found.restarted, LAST_TIME)
    latest = sorted(found.stages.values(), key=_begin)[-MOST_CARRIED:]
    return Carried([stage for stages in latest for stage in stages], known and len(latest) == len(found.stages))


def carried_stages(database: sqlite3.Connection) -> list[StageFact]:
    """Return the stages of the connections that were open at the begin of a segment."""
    return [*read_stages(database, "carried")] if _has_carried(database) else []


def restarts_of(database: sqlite3.Connection) -> list[int]:
    """Return the times at which other runs of the cache began in a segment (ns)."""
    return [msgspec.convert(time, int) for (time,) in rows(database, "restarts")] if _has_carried(database) else []


def ends(stage: StageFact) -> bool:
    """Return whether a connection was not open after a stage: it ended, or failed."""
    return stage.stage == "end" or stage.values.connected is False


def begin_of(stage: StageFact) -> int:
    """Return the time at which the connection of a stage was opened (ns)."""
    return stage.time - (stage.values.lasted or 0)


def _begin(stages: list[StageFact]) -> int:
    return begin_of(stages[0])


def _has_carried(database: sqlite3.Connection) -> bool:
    [version] = database.execute("PRAGMA user_version").fetchone()
    return bool(version > 1)
