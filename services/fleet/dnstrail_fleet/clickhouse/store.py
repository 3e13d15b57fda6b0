"""The rows of all hosts in ClickHouse. They merge by minimum and maximum: entries may come twice, and in any order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from dnstrail.process.clock import Clock
from dnstrail_fleet.clickhouse.client import ClickHouseClient, in_parts
from dnstrail_fleet.clickhouse.schema import KEY, make_tables
from dnstrail_fleet.log.contract import StreamLag
from dnstrail_fleet.row import DAY
from dnstrail_fleet.store.store import DAYS, MOST_IN_ALL, MOST_OF_HOST, ReceivedEntry

_LINES: Final = 65_536  # of one INSERT
_COUNT: Final = 60.0  # seconds between two counts of the rows of a host that seems to send too much
_COLUMNS: Final = f"key, {KEY}, first, last, until, count, gaps, doubted, used"
_HOSTS: Final = "host, refused, heard, state, dropped, lag, trimmed, left_out"
_OF_DAYS: Final = f"""
    SELECT day, count() FROM
        (SELECT day FROM dnstrail_rows WHERE key = target AND host = {{host:String}} GROUP BY {KEY})
    GROUP BY day"""  # noqa: S608 - names of this file
_KNOWN: Final = f"""
    SELECT {KEY} FROM dnstrail_rows
    WHERE key IN {{targets:Array(String)}} AND key = target AND host = {{host:String}} GROUP BY {KEY}"""  # noqa: S608
_OLD: Final = f"""
    SELECT count() FROM
        (SELECT day FROM dnstrail_rows WHERE key = target AND day < {{oldest:UInt32}} GROUP BY {KEY})"""  # noqa: S608
_GONE: Final = """
    SELECT host FROM dnstrail_hosts WHERE host NOT IN (SELECT host FROM dnstrail_shares)
    GROUP BY host HAVING max(heard) < {heard:Int64}"""


class _Key(NamedTuple):
    """What identifies a row."""

    question: str
    owner: str
    type: int
    target: str
    day: int
    host: str
    program: str
    container: str
    image: str


class _Totals(NamedTuple):
    """The merged values of rows of one key. `sent` counts these rows, and is not stored."""

    first: int
    last: int
    until: int
    answers: int
    gaps: int
    doubted: int
    used: int
    sent: int = 1

    def merged(self, other: _Totals) -> _Totals:
        """Return the totals of both."""
        return _Totals(
            min(self.first, other.first),
            max(self.last, other.last),
            max(self.until, other.until),
            max(self.answers, other.answers),
            max(self.gaps, other.gaps),
            max(self.doubted, other.doubted),
            max(self.used, other.used),
            self.sent + other.sent,
        )


class _HostState(NamedTuple):
    """What one write adds to a host. `state` and `lag` begin with a time: (ms, skew, behind), (us, waiting)."""

    host: str
    refused: dict[str, int]
    heard: int = 0
    state: tuple[int, int, int] = (0, 0, 0)
    dropped: int = 0
    lag: tuple[int, int] = (0, 0)
    trimmed: int = 0
    left_out: int = 0


class ClickHouseStore:
    """The rows of all hosts in one database. Several processes may write to it.

    The parts of a write are stored one after the other, the rows first: one that failed in between is repeated.
    `counters` are those of FleetStore.
    """

    at_once = 256  # entries
    pause = 0.5  # seconds: many small parts cost ClickHouse more than a few large ones

    def __init__(
        self,
        client: ClickHouseClient,
        clock: Clock,
        *,
        days: int = DAYS,
        most_of_host: int = MOST_OF_HOST,
        most_in_all: int = MOST_IN_ALL,
    ) -> None:
        """Take a connection; the first call makes the tables."""
        self.counters: Counter[str] = Counter(entries=0, rows=0, left_out=0, too_old=0)
        self._client = client
        self._clock = clock
        self._days = days
        self._most = most_of_host
        self._most_in_all = most_in_all
        self._counted_at: dict[str, float] = {}

    def __str__(self) -> str:
        return str(self._client)

    def write(self, entries: Iterable[ReceivedEntry], refused: Mapping[tuple[str, str], int], now: float) -> None:
        """Write entries, and how many were refused by host and reason.

        `now` (seconds since the epoch) is the time by which rows are too old: a host may name any other one.

        Raises:
            SettingsError: A later version of dnstrail made the tables.
            StoreUnavailableError: As far as is known, a part is missing: repeat it.
        """
        entries, counted = [*entries], Counter[str]()
        by_host: dict[str, dict[_Key, _Totals]] = {}
        for one in entries:
            _collect(one, by_host.setdefault(one.host, {}), int(now) // DAY - self._days, counted)
        self._prepare()
        left_out, added = self._leave_out(by_host)
        self._insert_rows(by_host)
        self._insert("dnstrail_shares", "host, day, rows", added)
        states = [_state(one) for one in entries]
        states += [_HostState(host, {}, left_out=count) for host, count in left_out.items()]
        states += [_HostState(host, {reason: count}) for (host, reason), count in refused.items()]
        self._insert("dnstrail_hosts", _HOSTS, states)
        counted["entries"] = len(entries)
        counted["left_out"] = left_out.total()
        counted["rows"] = sum(totals.sent for found in by_host.values() for totals in found.values())
        self.counters.update(counted)

    def note_lag(self, lag: Mapping[str, StreamLag]) -> None:
        """Store the state of streams. `trimmed` is the most that one run of a store counted: several count the same.

        Raises:
            SettingsError: A later version of dnstrail made the tables.
            StoreUnavailableError: It cannot be written now.
        """
        self._prepare()
        at = int(self._clock.wall() * 1_000_000)
        rows = [_HostState(host, {}, lag=(at, one.waiting), trimmed=one.trimmed) for host, one in lag.items()]
        self._insert("dnstrail_hosts", _HOSTS, rows)

    def remove_old(self, now: float) -> Iterator[int]:
        """Remove the rows that are too old at a time (seconds since the epoch), in one step; yield their number.

        Raises:
            SettingsError: A later version of dnstrail made the tables.
            StoreUnavailableError: Some could not be removed now.
        """
        self._prepare()
        oldest = int(now) // DAY - self._days
        [(first, some)] = self._client.select("SELECT min(day), count() FROM dnstrail_shares", tuple[int, int])
        if not some or first >= oldest:
            return
        [(count,)] = self._client.select(_OLD, tuple[int], oldest=oldest)
        self._client.change("ALTER TABLE dnstrail_shares DELETE WHERE day < {oldest:UInt32}", oldest=oldest)
        gone = [host for (host,) in self._client.select(_GONE, tuple[str], heard=int(now - self._days * DAY) * 1000)]
        for hosts in in_parts(gone):
            self._client.change("ALTER TABLE dnstrail_hosts DELETE WHERE host IN {hosts:Array(String)}", hosts=hosts)
        # The last one: the server goes on with it, also if nobody waits any more.
        self._client.change("ALTER TABLE dnstrail_rows DELETE WHERE day < {oldest:UInt32}", oldest=oldest)
        yield count

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _leave_out(self, by_host: dict[str, dict[_Key, _Totals]]) -> tuple[Counter[str], list[tuple[str, int, int]]]:
        """Take the rows out for which their hosts have no room.

        Return how many were taken out by host, and what the others add to `dnstrail_shares`, which may count rows
        twice: it is corrected where that matters.
        """
        shares: dict[str, Counter[int]] = {host: Counter() for host in by_host}
        for hosts in in_parts([*by_host]):
            statement = """SELECT host, day, sum(rows) FROM dnstrail_shares WHERE host IN {hosts:Array(String)}
                GROUP BY host, day"""
            for host, day, count in self._client.select(statement, tuple[str, int, int], hosts=hosts):
                shares[host][day] = count
        left_out, added = Counter[str](), list[tuple[str, int, int]]()
        for host, found in by_host.items():
            taken = shares[host]
            before = Counter(taken)
            taken.update(key.day for key in found)
            if max(taken.values(), default=0) > self._most or taken.total() > self._most_in_all:
                taken = self._counted(host, before)
                left_out[host] = self._leave_out_of(host, found, taken)
            added += [(host, day, taken[day] - before[day]) for day in {*taken, *before} if taken[day] != before[day]]
        return left_out, added

    def _counted(self, host: str, shares: Counter[int]) -> Counter[int]:
        """Return the rows of a host by day. It reads them all, and so not for each entry of one that sends too much."""
        now = self._clock.monotonic()
        if now < self._counted_at.get(host, float("-inf")) + _COUNT:
            return Counter(shares)
        self._counted_at[host] = now
        return Counter(dict(self._client.select(_OF_DAYS, tuple[int, int], host=host)))

    def _leave_out_of(self, host: str, found: dict[_Key, _Totals], taken: Counter[int]) -> int:
        """Take the new rows of a host out that have no room beside those `taken` by day, and count the others there."""
        known = set[_Key]()
        for targets in in_parts([*{key.target for key in found}]):
            known.update(self._client.select(_KNOWN, _Key, targets=targets, host=host))
        in_all, left_out = taken.total(), 0
        for key in [key for key in found if key not in known]:
            if taken[key.day] >= self._most or in_all >= self._most_in_all:
                left_out += found.pop(key).sent
            else:
                taken[key.day] += 1
                in_all += 1
        return left_out

    def _insert_rows(self, by_host: Mapping[str, Mapping[_Key, _Totals]]) -> None:
        lines = [
            (text, *key, *totals[:-1])
            for found in by_host.values()
            for key, totals in found.items()
            for text in {key.question, key.owner, key.target}
        ]
        for begin in range(0, len(lines), _LINES):
            self._insert("dnstrail_rows", _COLUMNS, lines[begin : begin + _LINES])

    def _insert(self, table: str, columns: str, rows: Sequence[tuple[object, ...]]) -> None:
        if rows:
            self._client.insert(table, columns, rows)

    def _prepare(self) -> None:
        """Make the tables at the first call, and after an error, which may mean another server."""
        if not self._client.is_open:
            make_tables(self._client)


def _state(one: ReceivedEntry) -> _HostState:
    sent, skew = one.checked
    return _HostState(one.host, {}, one.at, (one.at, skew, sent.behind), sent.dropped)


def _collect(one: ReceivedEntry, found: dict[_Key, _Totals], oldest: int, counted: Counter[str]) -> None:
    """Merge the rows of an entry into those found by key. Rows before the day `oldest` would be removed at once."""
    shift = one.checked.shift
    for asker in one.checked.entry.askers:
        for row in asker.rows:
            if row.day < oldest:
                counted["too_old"] += 1
                continue
            relation = row.question, row.owner or row.question, row.type, row.target
            key = _Key(*relation, row.day, one.host, asker.program, asker.container, asker.image)
            times = row.first + shift, row.last + shift, row.end + shift
            used = row.used + shift if row.used else 0
            totals = _Totals(*times, row.count, row.gaps, row.doubted, used)
            found[key] = found[key].merged(totals) if key in found else totals
