"""An entry has one specification, and the store refuses what no sender of ours writes."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.fleet import NOON, entries, entry, row
from dnstrail_fleet.row import (
    DAY,
    MOST_BYTES,
    MOST_ROWS,
    MOST_SKEW,
    AskerRows,
    BadEntryError,
    FleetEntry,
    LaterEntryError,
    encode_entry,
    read_entry,
)

AT = NOON * 1000
LATER = 16_725_225_600  # in the year 2500


def refused(body: bytes, *, at: int = AT, now: int = AT) -> str:
    """Return the reason for which an entry of web1 is refused."""
    with pytest.raises(BadEntryError) as error:
        read_entry(body, "web1", at, now)
    return error.value.reason


@given(entries)
def test_an_entry_is_read_as_it_was_written(one: FleetEntry) -> None:
    """Each entry that a sender can write is read, and is the same; the skew is the difference of the clocks."""
    assert read_entry(encode_entry(one), one.host, one.sent + 7, one.sent) == (one, 7)


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (entry("web2", row()), "host"),
        (entry("web1", row(), sent=LATER), "clock"),
        (entry("web1", row(at=LATER)), "time"),
        (entry("web1", row(at=NOON + 61)), "time"),
        (entry("web1", row(last=NOON - 1)), "time"),
        (entry("web1", row(last=NOON + DAY)), "time"),
        (entry("web1", row(used=NOON - 1)), "time"),
        (entry("web1", row(used=NOON + 61)), "time"),
        (entry("web1", row(end=NOON - 1)), "totals"),
        (entry("web1", row(end=NOON + (1 << 33))), "totals"),
        (entry("web1", row(gaps=2)), "totals"),
        (entry("web1", row(doubted=2)), "totals"),
        (entry("web1", row(count=0)), "form"),
        (entry("web1", row(type=1 << 16)), "form"),
        (entry("web1", row("x" * 1025)), "form"),
        (entry("web1", *[row()] * (MOST_ROWS + 1)), "rows"),
    ],
)
def test_a_hostile_entry_is_refused_with_its_reason(one: FleetEntry, reason: str) -> None:
    """Another host's name, a time far away, totals that contradict each other, and too much have each a reason."""
    assert refused(encode_entry(one)) == reason


@pytest.mark.parametrize(
    "body", [b"", b"\xc1", b"[]", b"\x90", b"\x81\xa1v\x00", b"\xdf\xff\xff\xff\xff", b"\x91" * 9000]
)
def test_what_is_no_entry_is_refused(body: bytes) -> None:
    """Bytes that are no MessagePack, no map, or nested deeply are refused."""
    assert refused(body) == "form"


def test_a_million_rows_are_refused_by_their_size() -> None:
    """An entry longer than the bound is refused before it is decoded."""
    huge = FleetEntry(1, "web1", AT, askers=(AskerRows("", "", "", (row(),) * 1_000_000),))
    assert len(body := encode_entry(huge)) > MOST_BYTES
    assert refused(body) == "size"


def test_a_host_cannot_choose_the_time_of_the_engine() -> None:
    """A host that writes an entry with an id of the year 2500 is refused by the clock of the store."""
    body = encode_entry(entry("web1", row(at=LATER), sent=LATER))
    assert refused(body, at=LATER * 1000) == "clock"


def test_a_clock_that_is_hours_off_is_accepted() -> None:
    """A clock may differ by a day at most."""
    body = encode_entry(entry("web1", row()))
    assert read_entry(body, "web1", AT + MOST_SKEW * 1000, AT + MOST_SKEW * 1000).skew == MOST_SKEW * 1000
    assert refused(body, at=AT + MOST_SKEW * 1000 + 1, now=AT + MOST_SKEW * 1000) == "clock"


def test_a_later_version_is_no_bad_entry() -> None:
    """An entry of a later version names it, whatever its other fields are."""
    with pytest.raises(LaterEntryError, match="version 3"):
        read_entry(msgspec.msgpack.encode({"v": 3, "host": 5}), "web1", AT, AT)


def test_rows_of_an_earlier_version_are_read() -> None:
    """A row of version 1 ends before its connections: none is known."""
    one = msgspec.msgpack.decode(encode_entry(entry("web1", row(), row("other.example", known=True))))
    rows = [each[:-2] for each in one["askers"][0][3]]
    body = msgspec.msgpack.encode({**one, "v": 1, "askers": [[*one["askers"][0][:3], rows]]})
    found = read_entry(body, "web1", AT, AT).entry
    assert found.askers == entry("web1", row(), row("other.example", known=True)).askers
    assert (found.v, found.askers[0].rows[0].used) == (1, 0)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(body: bytes) -> None:
    """No bytes raise another error."""
    with pytest.raises((BadEntryError, LaterEntryError)):
        read_entry(body, "web1", AT, AT)
