"""Rows of the store that touch a key, the newest first, and the state of the hosts."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heappop, heappush
from operator import attrgetter, itemgetter
from typing import Any, Final, NamedTuple

from dnstrail.dns.rdata import PTR
from dnstrail_fleet.lookups.walk import Relation
from dnstrail_fleet.private_address import is_private
from dnstrail_fleet.row import DAY, GRACE

#: days before a past time whose rows a lookup reads -> a relation with a longer life is not found
DAYS_BACK: Final = 8
#: steps of one trail -> further ones are left out: `truncated`
MOST_STEPS: Final = 256
#: relations of a host that lead to a key, or to which it leads -> its further ones are left out: `truncated`, and
#: `history` is false
MOST_RELATIONS: Final = 4_096
#: rows of one second that lengthen a page -> further ones are left out
MOST_OF_SECOND: Final = 4_096
_CHECK: Final = 10_000  # instructions of SQLite between two checks of the time
_NEXT_DAY: Final = "SELECT max(day) FROM rows WHERE day < ?"
_ROW: Final = """
    SELECT day, questions.text, owners.text, type, targets.text, hosts.name, program, container, image,
        day * 86400 + first, day * 86400 + last, day * 86400 + "end", count, gaps, doubted,
        iif(used < 0, 0, day * 86400 + used)
    FROM ({}) found
    JOIN texts questions ON questions.id = question JOIN texts owners ON owners.id = owner
    JOIN texts targets ON targets.id = target JOIN hosts ON hosts.id = host JOIN askers ON askers.id = asker"""
_WHERE: Final = f"""(?3 IS NULL OR host = ?3) AND last < ?4 - ?1 * 86400 AND last >= ?7 - ?1 * 86400
    AND (?5 IS NULL OR (first <= ?5 - ?1 * 86400 AND "end" > ?5 + {1 - GRACE} - ?1 * 86400))"""
_FOUND: Final = """
    SELECT * FROM rows WHERE day = ?1 AND target = ?2 AND {0}
    UNION ALL SELECT * FROM rows INDEXED BY rows_by_question
        WHERE day = ?1 AND question = ?2 AND owner = ?2 AND target <> ?2 AND {0}
    UNION ALL SELECT * FROM rows INDEXED BY rows_by_owner
        WHERE day = ?1 AND owner = ?2 AND owner <> question AND target <> ?2 AND {0}
    ORDER BY last DESC LIMIT ?6"""
_TOUCHING: Final = _ROW.format(_FOUND.format(_WHERE)) + " ORDER BY last DESC"
_OF_QUESTION: Final = _ROW.format("""
    SELECT rows.* FROM rows INDEXED BY rows_by_question JOIN askers ON askers.id = asker
    WHERE day = ? AND question = (SELECT id FROM texts WHERE text = ?)
        AND host = (SELECT id FROM hosts WHERE name = ?) AND program = ? AND container = ? AND image = ? LIMIT ?""")
_LIVE: Final = f"""day IN (SELECT value FROM json_each(?1)) AND host IN (SELECT value FROM json_each(?3))
    AND first <= ?4 - day * 86400 AND "end" > ?4 + {1 - GRACE} - day * 86400"""  # noqa: S608 - a number of this package
_INTO: Final = f"SELECT * FROM rows WHERE target IN (SELECT value FROM json_each(?2)) AND {_LIVE}"  # noqa: S608 - as above
_OUT: Final = f"""
    SELECT * FROM rows INDEXED BY rows_by_question
        WHERE question IN (SELECT value FROM json_each(?2)) AND owner = question AND {_LIVE}
    UNION ALL SELECT * FROM rows INDEXED BY rows_by_owner
        WHERE owner IN (SELECT value FROM json_each(?2)) AND owner <> question AND {_LIVE}"""  # noqa: S608 - as above
_RELATED: Final = """
    SELECT owner, target, hosts.name, owners.text, type, targets.text, is_certain FROM
        (SELECT *, row_number() OVER (PARTITION BY host) AS number FROM
            (SELECT host, owner, type, target, max(gaps = 0 OR last <= ?4 - day * 86400) AS is_certain
            FROM ({}) GROUP BY host, owner, type, target))
    JOIN texts owners ON owners.id = owner JOIN texts targets ON targets.id = target JOIN hosts ON hosts.id = host
    WHERE number <= ?5"""
_OF_ANSWERS: Final = """
    SELECT hosts.name, owners.text, type, targets.text FROM
        (SELECT *, row_number() OVER (PARTITION BY host) AS number FROM
            (SELECT DISTINCT host, owner, rows.type, target FROM json_each(?1) asked
            JOIN rows INDEXED BY rows_by_question ON day = json_extract(asked.value, '$[0]')
                AND question = (SELECT id FROM texts WHERE text = json_extract(asked.value, '$[1]'))
            WHERE host IN (SELECT value FROM json_each(?2))))
    JOIN texts owners ON owners.id = owner JOIN texts targets ON targets.id = target JOIN hosts ON hosts.id = host
    WHERE number <= ?3"""
_HOSTS: Final = """
    SELECT name, heard, skew, behind, dropped, waiting, trimmed, left_out,
        (SELECT json_group_object(reason, count) FROM refused WHERE host = hosts.id) FROM hosts ORDER BY name"""
_BEHIND: Final = """
    SELECT name FROM hosts WHERE heard > ? AND (behind > 0 OR waiting > ? OR heard < ?) ORDER BY name"""
_LOSSES: Final = """
    SELECT EXISTS (SELECT 1 FROM hosts WHERE dropped + trimmed + left_out > 0 AND (?1 IS NULL OR name = ?1))"""
_FIRST_DAY: Final = "SELECT ifnull(min(day), 0) FROM shares WHERE host = (SELECT id FROM hosts WHERE name = ?)"
_NEW: Final = """
    SELECT texts.text, first, ifnull(hosts.name, '') FROM names
    JOIN texts ON texts.id = names.text LEFT JOIN hosts ON hosts.id = host
    WHERE first >= ? ORDER BY first DESC LIMIT ?"""
_FIRST: Final = """
    SELECT hosts.name, min(rows.day * 86400 + rows.first) FROM names
    JOIN rows INDEXED BY rows_by_question ON question = text AND rows.day IN
        (names.first / 86400 - 1, names.first / 86400, names.first / 86400 + 1)
    JOIN hosts ON hosts.id = rows.host WHERE text = ? GROUP BY hosts.name ORDER BY 2, 1 LIMIT ?"""
_NAMED: Final = "SELECT names.first, texts.id FROM names JOIN texts ON texts.id = names.text WHERE texts.text = ?"
_ASKING: Final = """
    SELECT DISTINCT hosts.name FROM json_each(?) days
    JOIN rows INDEXED BY rows_by_question ON day = days.value AND question = ?
    JOIN hosts ON hosts.id = rows.host LIMIT 2"""
_TOP: Final = {
    "hosts": """
        SELECT hosts.name, CAST(answers AS INTEGER), relations, 0, NULL FROM totals JOIN hosts ON hosts.id = totals.id
        WHERE day = ? AND kind = 0 ORDER BY answers DESC LIMIT ?""",
    "names": """
        SELECT text, CAST(answers AS INTEGER), relations,
            (SELECT count(DISTINCT host) FROM rows WHERE day = ?1 AND question = texts.id), NULL FROM
            (SELECT id, answers, relations FROM totals WHERE day = ?1 AND kind = 1 ORDER BY answers DESC LIMIT ?2) found
        JOIN texts ON texts.id = found.id ORDER BY answers DESC""",
}
_ADDRESSES: Final = """
    SELECT id, CAST(answers AS INTEGER), relations FROM totals WHERE day = ? AND kind = 2 ORDER BY answers DESC"""
_OF_ADDRESS: Final = """
    SELECT (SELECT text FROM texts WHERE id = ?2), count(DISTINCT host) FROM rows
    WHERE day = ?1 AND target = ?2 AND type IN (1, 28)"""
_BY_HOST: Final = """
    SELECT CAST(total(count) AS INTEGER), count(*), hosts.name FROM rows
    JOIN hosts ON hosts.id = host WHERE day = ?1 AND target = ?2 AND type IN (1, 28) GROUP BY host"""
_DAYS_LATE: Final = 2  # days after its begin -> all rows of a day are older: the clock of a host may be a day behind
_NO_DAY: Final = 1 << 24  # after all days
_NO_TIME: Final = 1 << 41  # after all times


class FoundRow(NamedTuple):
    """A row of the store. Times are seconds since the epoch, by the clock of the engine."""

    day: int
    question: str
    owner: str
    type: int
    target: str
    host: str
    program: str
    container: str
    image: str
    first: int
    last: int
    end: int
    answers: int
    gaps: int
    doubted: int
    used: int  #: the last connection of the asker to the target by the question, 0 if none is known

    @property
    def asker(self) -> tuple[str, str, str]:
        """Program, container and image."""
        return self.program, self.container, self.image

    def is_live(self, at: float) -> bool | None:
        """Return whether it was live at the end of a second (since the epoch), None if a gap of its day hides that."""
        second = int(at)
        if not self.first <= second < self.end + GRACE - 1:  # an end is a second late, since it was rounded up
            return False
        return True if not self.gaps or self.last <= second else None


class FoundRows(NamedTuple):
    """Rows, the newest first. `is_whole` states that no bound left any out.

    `next` is the time (seconds since the epoch) before which all others end, None if there is none, or it is not known.
    """

    rows: list[FoundRow]
    is_whole: bool
    next: int | None = None


class FoundRelations:
    """Relations by host. `cut` are the hosts of which some may be left out."""

    def __init__(self, hosts: Iterable[str]) -> None:
        self.by_host: dict[str, set[Relation]] = {host: set() for host in hosts}
        self.cut: set[str] = set()

    @property
    def whole(self) -> list[str]:
        """The hosts of which none is left out."""
        return [host for host in self.by_host if host not in self.cut]

    def add(self, host: str, relation: Relation) -> None:
        """Add a relation of a host."""
        self.by_host[host].add(relation)
        if len(self.by_host[host]) > MOST_RELATIONS:
            self.cut.add(host)


class StoreReader:
    """The lookups of one connection to the store. Each may raise sqlite3.Error."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def interrupt(self, is_over: Callable[[], bool]) -> None:
        """Let a function end the statements from now on, also in their midst: they raise sqlite3.OperationalError."""
        self._database.set_progress_handler(is_over, _CHECK)

    def touching(
        self,
        key: str,
        limit: int,
        *,
        host: str | None = None,
        at: float | None = None,
        before: float | None = None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> FoundRows:
        """Return the newest rows whose target or owner is a key; `is_over` ends the search.

        They are `limit` rows, and those of the same second as the last one: the next page begins before it.
        A search that ended early returns the rows that are certainly the newest, else what it found.
        """
        number, by = self._id("texts", "text", key), None if host is None else self._id("hosts", "name", host)
        if number is None or (host is not None and by is None):
            return FoundRows([], is_whole=True)
        most, moment = _NO_TIME if before is None else math.ceil(before), None if at is None else int(at)
        found, days = list[FoundRow](), list[int]()
        for day in self._days(at, before):
            late = (day + _DAYS_LATE) * DAY
            last = found[limit - 1].last if len(found) > limit else 0
            if last >= late:
                break
            if found and is_over():
                newest = [row for row in found if row.last >= late]
                return FoundRows(newest or found[:limit], is_whole=False, next=newest[-1].last if newest else None)
            days.append(day)
            found += self._found(day, number, by, most, moment, limit + 1, last)
            found = sorted(found, key=attrgetter("last"), reverse=True)[: limit + 1]
        if len(found) <= limit:
            return FoundRows(found, is_whole=True)
        last = found[limit - 1].last
        of_second = list[FoundRow]()
        for day in days:
            if last < (day + _DAYS_LATE) * DAY:
                of_second += self._found(day, number, by, last + 1, moment, MOST_OF_SECOND - len(of_second), last)
        return FoundRows([row for row in found if row.last > last] + of_second, is_whole=False, next=last)

    def of_questions(self, rows: Sequence[FoundRow]) -> Iterator[FoundRows]:
        """Yield for each row all rows of its day, question, host and asker."""
        for row in rows:
            values = row.day, row.question, row.host, *row.asker, MOST_STEPS + 1
            found = [FoundRow(*one) for one in self._database.execute(_OF_QUESTION, values)]
            yield FoundRows(found[:MOST_STEPS], len(found) <= MOST_STEPS)

    def of_answers(self, rows: Sequence[FoundRow]) -> FoundRelations:
        """Return the relations of the answers of some rows: those of their days, questions and hosts."""
        found = FoundRelations(row.host for row in rows)
        asked = json.dumps([*{(row.day, row.question) for row in rows}])
        values = asked, self._ids_of_hosts(found.by_host), MOST_RELATIONS + 1
        for host, owner, rdtype, target in self._database.execute(_OF_ANSWERS, values):
            found.add(host, Relation(owner, rdtype, target, is_certain=True))
        return found

    def related(self, key: str, hosts: Iterable[str], at: float, is_over: Callable[[], bool]) -> FoundRelations:
        """Return the relations of some hosts that may have been live at a time: those to a key, and those from it."""
        found = FoundRelations(hosts)
        number = self._id("texts", "text", key)
        days = json.dumps([*self._days(at, None)])
        for place, find in enumerate((_INTO, _OUT)):
            seen = pending = {number}
            while pending and found.whole:
                values = days, json.dumps([*pending]), self._ids_of_hosts(found.whole), int(at), MOST_RELATIONS + 1
                ends: set[tuple[str, int | None]] = set()
                for *both, host, owner, rdtype, target, is_certain in self._database.execute(
                    _RELATED.format(find), values
                ):
                    found.add(host, Relation(owner, rdtype, target, is_certain=bool(is_certain)))
                    if rdtype != PTR:
                        ends.add((host, both[place]))
                if is_over():
                    found.cut.update(found.by_host)
                pending = {end for host, end in ends if host not in found.cut} - seen
                seen = seen | pending
        return found

    def hosts(self) -> list[tuple[Any, ...]]:
        """Return the columns of all hosts; the last one is a JSON map of refused entries by reason."""
        return self._database.execute(_HOSTS).fetchall()

    def behind(self, waiting: int, heard: float, gone: float) -> list[str]:
        """Return the hosts with more entries that wait, or unheard since `heard` (seconds since the epoch), or behind.

        Those that were not heard since `gone` are left out.
        """
        found = self._database.execute(_BEHIND, (int(gone * 1000), waiting, int(heard * 1000)))
        return [name for (name,) in found]

    def has_losses(self, host: str | None) -> bool:
        """Return whether rows of a host were lost, or of any host."""
        return bool(self._database.execute(_LOSSES, (host,)).fetchone()[0])

    def new(self, since: float, limit: int) -> list[tuple[Any, ...]]:
        """Return (name, first, host) of the names that no host asked for before a time, the newest first."""
        return self._database.execute(_NEW, (int(since), limit)).fetchall()

    def first_hosts(self, name: str, limit: int) -> list[tuple[str, int]]:
        """Return the hosts that asked for a name on its first days, each with the time (s) at which it did first."""
        number = self._id("texts", "text", name)
        return [] if number is None else self._database.execute(_FIRST, (number, limit)).fetchall()

    def alone(self, name: str) -> tuple[str, int] | None:
        """Return the host that alone asked for a name, with the time (s) at which it did first; None without one."""
        found = self._database.execute(_NAMED, (name,)).fetchone()
        if found is None:
            return None
        first, number = found
        days = json.dumps([*self._days(None, None)])
        hosts = self._database.execute(_ASKING, (days, number)).fetchall()
        return (hosts[0][0], first) if len(hosts) == 1 else None

    def top(self, what: str, limit: int, now: float, is_over: Callable[[], bool]) -> list[tuple[Any, ...]]:
        """Return (name, answers, relations, hosts, host) of the newest day until now, the most answers first.

        The last one is the host of a private address, which is another machine on each of them; None else.

        Raises:
            sqlite3.OperationalError: It takes too long.
        """
        [day] = self._database.execute(_NEXT_DAY, (int(now) // DAY + 1,)).fetchone()
        if what == "addresses":
            return self._top_addresses(day, limit, is_over)
        return self._database.execute(_TOP[what], (day, limit)).fetchall()

    def _top_addresses(self, day: int | None, limit: int, is_over: Callable[[], bool]) -> list[tuple[Any, ...]]:
        """Return the addresses with the most answers: a private one has at most as many on one host as on all."""
        found: list[tuple[Any, ...]] = []
        most: list[int] = []  # a heap of the answers of the first ones
        for target, in_all, relations in self._database.execute(_ADDRESSES, (day,)):
            if len(most) == limit and most[0] >= in_all:
                break
            if is_over():
                raise sqlite3.OperationalError("interrupted")
            text, hosts = self._database.execute(_OF_ADDRESS, (day, target)).fetchone()
            some = [(text, in_all, relations, hosts, None)]
            if is_private(text):
                of_hosts = self._database.execute(_BY_HOST, (day, target))
                some = [(text, answers, of_host, 1, host) for answers, of_host, host in of_hosts]
            found += some
            for one in some:
                heappush(most, one[1])
                if len(most) > limit:
                    heappop(most)
        return sorted(found, key=itemgetter(1), reverse=True)[:limit]

    def first_day(self, host: str | None) -> int:
        """Return the first day with rows of a host, or of any host; 0 if there is none."""
        if host is not None:
            return int(self._database.execute(_FIRST_DAY, (host,)).fetchone()[0])
        return int(self._database.execute("SELECT ifnull(min(day), 0) FROM rows").fetchone()[0])

    def _ids_of_hosts(self, hosts: Iterable[str]) -> str:
        return json.dumps([self._id("hosts", "name", host) for host in hosts])

    def _found(self, *values: int | None) -> list[FoundRow]:
        return [FoundRow(*row) for row in self._database.execute(_TOUCHING, values)]

    def _id(self, table: str, column: str, text: str) -> int | None:
        find = f"SELECT id FROM {table} WHERE {column} = ?"  # noqa: S608 - names of this file
        found = self._database.execute(find, (text,)).fetchone()
        return None if found is None else int(found[0])

    def _days(self, at: float | None, before: float | None) -> Iterator[int]:
        """Yield the days that have rows, the newest first."""
        latest = [int(one) // DAY + 2 for one in (at, before) if one is not None]
        day, last = min([*latest, _NO_DAY]), 0 if at is None else int(at) // DAY - DAYS_BACK
        while (found := self._database.execute(_NEXT_DAY, (day,)).fetchone()[0]) is not None and found >= last:
            yield (day := int(found))
