"""The lookups of one connection to ClickHouse. Each statement merges the rows that are not merged yet."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeVar

from dnstrail.dns.rdata import PTR
from dnstrail_fleet.clickhouse.client import ClickHouseClient, in_parts
from dnstrail_fleet.clickhouse.schema import KEY
from dnstrail_fleet.lookups import reading
from dnstrail_fleet.lookups.contract import StoreUnavailableError
from dnstrail_fleet.lookups.reading import DAYS_BACK, MOST_STEPS, FoundRelations, FoundRow, FoundRows
from dnstrail_fleet.lookups.walk import Relation
from dnstrail_fleet.private_address import is_private
from dnstrail_fleet.row import DAY, GRACE

_NO_DAY: Final = 1 << 24  # after all days
_SINCE: Final = "day >= {since:UInt32}"
_DAYS: Final = f"{_SINCE} AND day < {{before_day:UInt32}}"
_LIVE: Final = f"first <= {{at:Int64}} AND until > {{at:Int64}} + {1 - GRACE}"
# FINAL merges the rows that are read. It needs one thread: a key has few of them.
_ROWS: Final = """
    SELECT day, question, owner, type, target, host, program, container, image, first, last, until, count, gaps,
        doubted, used
    FROM dnstrail_rows FINAL"""
_ALONE: Final = "SETTINGS max_threads = 1"
_TOUCHING: Final = "key = {key:String} AND (key = target OR key = owner)"
# What a lookup adds by its fields. ClickHouse analyses each condition, also one that holds for all rows.
_FIELDS: Final = {
    "host": "host = {host:String}",
    "at": f"{_DAYS} AND {_LIVE}",
    "before": "day < {before_day:UInt32} AND last < {before:Int64}",
}
_NEWEST_DAYS: Final = 3  # that are read first: a key with many rows has enough of them
_ANSWER: Final = "day, question, host, program, container, image"
_OF_QUESTIONS: Final = f"""{_ROWS}
    WHERE key IN {{questions:Array(String)}} AND key = question
        AND ({_ANSWER}) IN {{asked:Array(Tuple(UInt32, String, String, String, String, String))}}
    LIMIT {{limit:UInt32}} BY {_ANSWER} {_ALONE}"""
_OF_ANSWERS: Final = f"""
    SELECT DISTINCT host, owner, type, target FROM dnstrail_rows
    WHERE (day, key) IN {{asked:Array(Tuple(UInt32, String))}} AND key = question AND host IN {{hosts:Array(String)}}
    LIMIT {{limit:UInt32}} BY host {_ALONE}"""  # noqa: S608 - names of this file
_RELATED: Final = f"""
    SELECT host, owner, type, target, max(gaps = 0 OR last <= {{at:Int64}}) FROM dnstrail_rows FINAL
    WHERE key IN {{keys:Array(String)}} AND key = if({{is_into:UInt8}}, target, owner)
        AND host IN {{hosts:Array(String)}} AND {_DAYS} AND {_LIVE}
    GROUP BY host, owner, type, target LIMIT {{limit:UInt32}} BY host {_ALONE}"""  # noqa: S608
_HOSTS: Final = """
    SELECT host, max(heard), max(state).2, max(state).3, max(dropped), max(lag).2, max(trimmed), sum(left_out),
        toJSONString(sumMap(refused))
    FROM dnstrail_hosts GROUP BY host ORDER BY host"""
_BEHIND: Final = f"""
    SELECT host FROM dnstrail_hosts FINAL
    WHERE heard > {{gone:Int64}} AND (state.3 > 0 OR lag.2 > {{waiting:Int64}} OR heard < {{heard:Int64}})
    ORDER BY host {_ALONE}"""  # noqa: S608 - names of this file
_LOSSES: Final = """
    SELECT max(dropped) + max(trimmed) + sum(left_out) FROM dnstrail_hosts
    WHERE {any:UInt8} OR host = {host:String}"""
_NEW: Final = """
    SELECT key, min(first) AS f, argMin(host, first) FROM dnstrail_rows WHERE key = question
    GROUP BY key HAVING f >= {since:Int64} ORDER BY f DESC LIMIT {limit:UInt32}"""
_FIRST: Final = """
    WITH (SELECT intDiv(min(first), 86400) FROM dnstrail_rows WHERE key = {name:String} AND question = key) AS begun
    SELECT host, min(first) AS f FROM dnstrail_rows
    WHERE key = {name:String} AND question = key AND day >= begun - 1 AND day <= begun + 1
    GROUP BY host ORDER BY f, host LIMIT {limit:UInt32}"""
_LONE: Final = """
    SELECT min(host), min(first) FROM dnstrail_rows WHERE key = {name:String} AND question = key
    GROUP BY key HAVING min(host) = max(host)"""
# The column whose values are counted, and of which rows.
_COUNTED: Final = {"hosts": ("host", "1"), "names": ("question", "1"), "addresses": ("target", "type IN (1, 28)")}
_SUM: Final = "toInt64(least(sum(toInt128(answers)), 9223372036854775807))"  # hosts may state any counts
_CANDIDATES: Final = 2  # times as many as wanted
_MORE: Final = 8  # times as many again if they leave too few
_T = TypeVar("_T")


class _HostRelation(NamedTuple):
    host: str
    owner: str
    type: int
    target: str
    is_certain: int = 1

    @property
    def relation(self) -> Relation:
        """The relation without the host."""
        return Relation(self.owner, self.type, self.target, is_certain=bool(self.is_certain))


class _Candidate(NamedTuple):
    name: str
    most: int


class _Top(NamedTuple):
    name: str
    answers: int
    relations: int
    hosts: int
    host: str | None


def _never() -> bool:
    return False


class ClickHouseReader:
    """The lookups of StoreReader. Each may raise StoreUnavailableError."""

    def __init__(self, client: ClickHouseClient) -> None:
        self._client = client
        self._is_over: Callable[[], bool] = _never
        self._newest_day = 0  # of all rows that were found

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def interrupt(self, is_over: Callable[[], bool]) -> None:
        """Let a function end the lookups from now on, between two statements. The client ends a long one."""
        self._is_over = is_over

    def touching(
        self,
        key: str,
        limit: int,
        *,
        host: str | None = None,
        at: float | None = None,
        before: float | None = None,
        is_over: Callable[[], bool] = _never,  # noqa: ARG002 - the client ends each statement
    ) -> FoundRows:
        """Return the newest rows whose target or owner is a key.

        They are `limit` rows, and those of the same second as the last one: the next page begins before it.
        """
        second, most = None if at is None else int(at), None if before is None else math.ceil(before)
        fields = {"host": host, "at": second, "before": most}
        asked = {name: value for name, value in fields.items() if value is not None}
        wanted = [_TOUCHING, *(_FIELDS[name] for name in asked)]
        values = {**asked, **_days(at, before), "key": key}
        since = self._newest_day + 1 - _NEWEST_DAYS
        rows = []
        if since > 0 and at is None and before is None:
            rows = self._newest([*wanted, _SINCE], **{**values, "since": since}, limit=limit + 1)
        # The clock of a host may be a day ahead, so that rows of earlier days end before this time.
        if len(rows) <= limit or rows[limit - 1].last < (since + 1) * DAY:
            rows = self._newest(wanted, **values, limit=limit + 1)
        self._newest_day = max([self._newest_day, *(row.day for row in rows)])
        if len(rows) <= limit:
            return FoundRows(rows, is_whole=True)
        last = rows[limit - 1].last
        found = [row for row in rows if row.last > last]
        of_second = [row for row in rows if row.last == last]
        if rows[-1].last == last:  # there may be more of this second
            wanted.append("last = {second:Int64}")
            of_second = self._newest(wanted, **values, second=last, limit=reading.MOST_OF_SECOND)
        return FoundRows(found + of_second, is_whole=False, next=last)

    def of_questions(self, rows: Sequence[FoundRow]) -> Iterator[FoundRows]:
        """Yield for each row all rows of its day, question, host and asker."""
        found: dict[tuple[object, ...], list[FoundRow]] = {}
        for asked in in_parts([*{_answer(row) for row in rows}]):
            values = {"asked": asked, "questions": [*{one[1] for one in asked}], "limit": MOST_STEPS + 1}
            for one in self._rows(_OF_QUESTIONS, **values):
                found.setdefault(_answer(one), []).append(one)
        for row in rows:
            steps = found.get(_answer(row), [])
            yield FoundRows(steps[:MOST_STEPS], len(steps) <= MOST_STEPS)

    def of_answers(self, rows: Sequence[FoundRow]) -> FoundRelations:
        """Return the relations of the answers of some rows: those of their days, questions and hosts."""
        found = FoundRelations(row.host for row in rows)
        for hosts in in_parts([*found.by_host]):
            for asked in in_parts([*{(row.day, row.question) for row in rows}]):
                values = {"asked": asked, "hosts": hosts, "limit": reading.MOST_RELATIONS + 1}
                for one in self._select(_OF_ANSWERS, _HostRelation, **values):
                    found.add(one.host, one.relation)
        return found

    def related(self, key: str, hosts: Iterable[str], at: float, is_over: Callable[[], bool]) -> FoundRelations:
        """Return the relations of some hosts that may have been live at a time: those to a key, and those from it."""
        found = FoundRelations(hosts)
        values = {**_days(at, None), "at": int(at), "limit": reading.MOST_RELATIONS + 1}
        for is_into in (True, False):
            values["is_into"] = int(is_into)
            seen = pending = {key}
            while pending and found.whole:
                ends: set[tuple[str, str]] = set()
                for keys in in_parts([*pending]):
                    for some in in_parts(found.whole):
                        for one in self._select(_RELATED, _HostRelation, **values, keys=keys, hosts=some):
                            found.add(one.host, one.relation)
                            if one.type != PTR:
                                ends.add((one.host, one.owner if is_into else one.target))
                if is_over():
                    found.cut.update(found.by_host)
                pending = {text for host, text in ends if host not in found.cut} - seen
                seen = seen | pending
        return found

    def hosts(self) -> list[tuple[Any, ...]]:
        """Return the columns of all hosts; the last one is a JSON map of refused entries by reason."""
        return [*self._select(_HOSTS, tuple[str, int, int, int, int, int, int, int, str])]

    def behind(self, waiting: int, heard: float, gone: float) -> list[str]:
        """Return the hosts with more entries that wait, or unheard since `heard` (seconds since the epoch), or behind.

        Those that were not heard since `gone` are left out.
        """
        values = {"waiting": waiting, "heard": int(heard * 1000), "gone": int(gone * 1000)}
        return [host for (host,) in self._select(_BEHIND, tuple[str], **values)]

    def has_losses(self, host: str | None) -> bool:
        """Return whether rows of a host were lost, or of any host."""
        [(count,)] = self._select(_LOSSES, tuple[int], any=int(host is None), host=host or "")
        return count > 0

    def new(self, since: float, limit: int) -> list[tuple[Any, ...]]:
        """Return (name, first, host) of the names that no host asked for before a time, the newest first."""
        return [*self._select(_NEW, tuple[str, int, str], since=int(since), limit=limit)]

    def first_hosts(self, name: str, limit: int) -> list[tuple[str, int]]:
        """Return the hosts that asked for a name on its first days, each with the time (s) at which it did first."""
        return self._select(_FIRST, tuple[str, int], name=name, limit=limit)

    def alone(self, name: str) -> tuple[str, int] | None:
        """Return the host that alone asked for a name, with the time (s) at which it did first; None without one."""
        found = self._select(_LONE, tuple[str, int], name=name)
        return found[0] if found else None

    def top(self, what: str, limit: int, now: float, is_over: Callable[[], bool]) -> list[tuple[Any, ...]]:
        """Return (name, answers, relations, hosts, host) of the newest day until now, the most answers first.

        The last one is the host of a private address, which is another machine on each of them; None else.
        """
        statement = "SELECT max(day) FROM dnstrail_shares WHERE day <= {today:UInt32}"
        [(day,)] = self._select(statement, tuple[int], today=int(now) // DAY)
        # Each that is no candidate has at most as many answers as the last of these, and a private address on one host
        # has at most as many as on all.
        find, most = _leading(_unmerged(what)), _CANDIDATES * limit
        while True:
            if is_over():
                raise StoreUnavailableError(str(self._client), "clickhouse-slow", "interrupted")
            found = self._select(find, _Candidate, day=day, limit=most)
            top = list[_Top]()
            for names in in_parts([one.name for one in found]):
                private = [name for name in names if what == "addresses" and is_private(name)]
                top += self._select(_exact(what), _Top, day=day, names=names, private=private)
            top.sort(key=attrgetter("answers"), reverse=True)
            if len(found) < most or (len(top) >= limit and top[limit - 1].answers >= found[-1].most):
                return [*top[:limit]]
            find, most = _leading(_merged(what)), most * _MORE

    def first_day(self, host: str | None) -> int:
        """Return the first day with rows of a host, or of any host; 0 if there is none."""
        statement = "SELECT min(day) FROM dnstrail_shares WHERE {any:UInt8} OR host = {host:String}"
        [(day,)] = self._select(statement, tuple[int], any=int(host is None), host=host or "")
        return day

    def _newest(self, wanted: Iterable[str], **values: object) -> list[FoundRow]:
        """Return the rows for which all conditions hold, the newest first."""
        statement = f"{_ROWS} WHERE {' AND '.join(wanted)} ORDER BY last DESC LIMIT {{limit:UInt32}} {_ALONE}"
        return self._rows(statement, **values)

    def _rows(self, statement: str, **values: object) -> list[FoundRow]:
        return self._select(statement, FoundRow, **values)

    def _select(self, statement: str, shape: type[_T], **values: object) -> list[_T]:
        if self._is_over():
            raise StoreUnavailableError(str(self._client), "clickhouse-slow", "interrupted")
        return self._client.select(statement, shape, **values)


def _answer(row: FoundRow) -> tuple[int, str, str, str, str, str]:
    return row.day, row.question, row.host, *row.asker


def _leading(answers: str) -> str:
    """Return the statement for the candidates of a day, by a subquery for the answers of its rows."""
    return f"""
        SELECT name, {_SUM} AS a FROM {answers}
        GROUP BY name ORDER BY a DESC, name LIMIT {{limit:UInt32}}"""  # noqa: S608 - names of this file


def _exact(what: str) -> str:
    """Return the statement for the columns of some candidates."""
    hosts = "0" if what == "hosts" else "uniqExact(host)"
    return f"""
        SELECT name, {_SUM} AS a, count(), {hosts}, if(name IN {{private:Array(String)}}, host, NULL) AS h
        FROM {_merged(what, "name IN {names:Array(String)}")} GROUP BY name, h ORDER BY a DESC, name"""  # noqa: S608


def _merged(what: str, wanted: str = "1") -> str:
    """Return a subquery for the answers of each row of a day, which costs more than without a merge.

    A hash takes half of the time of its columns. A host can only make rows of its own collide, and so hide them.
    """
    return f"""
        (SELECT name, host, max(rows.answers) AS answers FROM {_unmerged(what)} AS rows WHERE {wanted}
        GROUP BY name, host, cityHash64(question, owner, type, target, program, container, image))"""  # noqa: S608


def _unmerged(what: str) -> str:
    """Return a subquery for the answers of a day, of which rows that are not merged yet have several."""
    column, condition = _COUNTED[what]
    return f"""
        (SELECT {column} AS name, count AS answers, {KEY} FROM dnstrail_rows
        WHERE day = {{day:UInt32}} AND key = target AND {condition})"""  # noqa: S608


def _days(at: float | None, before: float | None) -> dict[str, int]:
    """Return the days whose rows a lookup reads."""
    latest = [int(one) // DAY + 2 for one in (at, before) if one is not None]
    return {"since": 0 if at is None else max(int(at) // DAY - DAYS_BACK, 0), "before_day": min([*latest, _NO_DAY])}
