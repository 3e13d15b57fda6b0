"""The row of a fleet: its specification, its form on the wire, and what the store checks of it.

A row states what one asker of a host was answered on one day: one relation to which one question led. Its numbers are
totals of the day, so that rows merge by minimum and maximum: they may arrive twice, and in any order.
"""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple

import msgspec

from dnstrail.errors import DnstrailError

VERSION: Final = 2  # of an entry; rows of version 1 have no connections
DAY: Final = 86_400  # seconds
#: seconds past its TTL for which a relation counts as live, as at a cache without another `grace` -> it has ended
GRACE: Final = 60
#: rows of an entry of the log -> the sender leaves them to the next entry; the store refuses more: `rows`
MOST_ROWS: Final = 4_096
#: bytes of an entry of the log -> the sender leaves rows to the next entry; the store refuses more: `size`
MOST_BYTES: Final = 1 << 20
#: seconds by which the clock of a host may differ from that of the engine -> the store refuses its entries: `clock`
MOST_SKEW: Final = 86_400
#: seconds between the last answer of a row and the time of its entry in the engine -> `time`
_AHEAD: Final = 60
_SHOWN_SKEW: Final = 1_000  # ms: a smaller difference may be the way to the engine
_LONGEST_LIFE: Final = 1 << 32  # seconds from the last answer to the end: a TTL has 31 bits

Text = Annotated[str, msgspec.Meta(max_length=1024)]
Seconds = Annotated[int, msgspec.Meta(ge=0, lt=1 << 40)]
Total = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
Natural = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]


class FleetRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One relation to which a question led, for one asker and day. On the wire it is an array."""

    question: Text  #: the name that was asked, or the address of a reverse question
    owner: Text  #: the owner of the relation; "" on the wire: the question
    type: Annotated[int, msgspec.Meta(ge=0, lt=1 << 16)]  #: the number of the type of the relation
    target: Text  #: the name or the address to which the owner leads
    day: Annotated[int, msgspec.Meta(ge=0, lt=1 << 24)]  #: days since 1970-01-01, UTC, by the clock of the host
    first: Seconds  #: seconds since the epoch: the first answer of the day
    last: Seconds  #: seconds since the epoch: the last answer of the day
    end: Natural  #: seconds since the epoch: the latest end of these answers, by their TTLs
    count: Annotated[int, msgspec.Meta(ge=1, lt=1 << 53)]  #: answers of the day
    gaps: Total  #: answers of the day that came a minute or more after the end of all before them
    doubted: Total  #: answers of the day that may be forged
    known: bool = False  #: the host sent this relation, question and asker before, also on an earlier day
    used: Seconds = 0  #: seconds since the epoch: the last connection of the asker to the target by the question, or 0
    reused: bool = False  #: the host sent a connection of this row before


class AskerRows(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An asker and its rows. On the wire it is an array. Unknown texts are ""."""

    program: Text  #: the path of the program that asked, else its name
    container: Text  #: the name of its container, else the id
    image: Text  #: the image of its container
    rows: tuple[FleetRow, ...]  #: its rows


class FleetEntry(msgspec.Struct, frozen=True, gc=False):
    """An entry of the log: a map on the wire. An entry without rows states that the host is alive."""

    v: int  #: the version of the entry: 2; rows of version 1 end before `used`
    host: Text  #: the name of the host: that of its user in the engine
    sent: Natural  #: ms since the epoch, by the clock of the host, at which it was sent
    behind: Total = 0  #: segments of the history that the sender has not begun to read
    dropped: Total = 0  #: segments of the history that were removed before the sender read them, in all
    askers: tuple[AskerRows, ...] = ()  #: the rows by asker


class CheckedEntry(NamedTuple):
    """An entry that passed all checks. `skew` is the time of the engine minus the clock of the host, in ms."""

    entry: FleetEntry
    skew: int

    @property
    def shift(self) -> int:
        """The seconds by which the times of the host are corrected."""
        return round(self.skew / 1000) if abs(self.skew) > _SHOWN_SKEW else 0


class BadEntryError(DnstrailError):
    """An entry that no sender of ours writes. `reason` is one word, by which the store counts it."""

    def __init__(self, reason: str, text: str) -> None:
        self.reason = reason
        super().__init__(f"{reason}: {text}")


class LaterEntryError(DnstrailError):
    """An entry of a later version: it stays in the log until a store of that version reads it."""

    def __init__(self, version: int) -> None:
        self.version = version
        super().__init__(f"an entry of version {version}: update this store, which reads version {VERSION}")


class _Version(msgspec.Struct):
    v: Annotated[int, msgspec.Meta(ge=1)]


_VERSION = msgspec.msgpack.Decoder(_Version)
_ENTRY = msgspec.msgpack.Decoder(FleetEntry)
encode_entry = msgspec.msgpack.Encoder().encode


def read_entry(body: bytes, host: str, at: int, now: int) -> CheckedEntry:
    """Return an entry. `host` is the user that wrote it, `at` its time in the engine, `now` that of the store (ms).

    Raises:
        BadEntryError: No sender of ours writes it.
        LaterEntryError: A later version wrote it.
    """
    if len(body) > MOST_BYTES:
        raise BadEntryError("size", f"{len(body)} bytes; {MOST_BYTES} at most")
    try:
        if (version := _VERSION.decode(body).v) > VERSION:
            raise LaterEntryError(version)
        entry = _ENTRY.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise BadEntryError("form", str(error)) from error
    if entry.host != host:
        raise BadEntryError("host", f"{entry.host!r:.100} is another host")
    if max(abs(at - entry.sent), at - now) > MOST_SKEW * 1000:  # a host may also name the time of the engine
        raise BadEntryError("clock", "its clock differs by more than a day")
    if (count := sum(len(one.rows) for one in entry.askers)) > MOST_ROWS:
        raise BadEntryError("rows", f"{count} rows; {MOST_ROWS} at most")
    for asker in entry.askers:
        for row in asker.rows:
            _check(row, entry.sent // 1000 + _AHEAD)
    return CheckedEntry(entry, at - entry.sent)


def _check(row: FleetRow, latest: int) -> None:
    """Check the times and the totals of a row. `latest` is the latest time (s) of an answer.

    Raises:
        BadEntryError: No sender of ours writes it.
    """
    begin = row.day * DAY
    if not begin <= row.first <= row.last < begin + DAY or row.last > latest:
        raise BadEntryError("time", f"first {row.first}, last {row.last} on the day {row.day}")
    if row.used and not row.first <= row.used <= latest:
        raise BadEntryError("time", f"first {row.first}, used {row.used}")
    if not row.first <= row.end <= row.last + _LONGEST_LIFE or max(row.gaps, row.doubted) > row.count:
        raise BadEntryError("totals", "its totals contradict each other")
