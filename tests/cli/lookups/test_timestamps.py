from __future__ import annotations

import time
from datetime import datetime

import click
import pytest

from dnstrail.process.clock import nanoseconds, parse_moment
from dnstrail_cli.lookups.timestamps import convert_moment, parse_local
from live.processes import dnstrail

ZONE = "CET-1CEST,M3.5.0,M10.5.0/3"  # Berlin, as POSIX writes it


@pytest.fixture(autouse=True)
def berlin(monkeypatch):
    """Yield the host's zone is that of Berlin."""
    monkeypatch.setenv("TZ", ZONE)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


NOW = "2026-11-10T13:30:00+01:00"
FORMS = {
    "-5m": "2026-11-10T13:25:00+01:00",
    "-2h30m": "2026-11-10T11:00:00+01:00",
    "-1d": "2026-11-09T13:30:00+01:00",
    "-1d2h3m4s": "2026-11-09T11:26:56+01:00",
    "-90s": "2026-11-10T13:28:30+01:00",
    "13:29": "2026-11-10T13:29:00+01:00",
    "9:30": "2026-11-10T09:30:00+01:00",
    "today 9:30": "2026-11-10T09:30:00+01:00",
    "today 09:30:15.5": "2026-11-10T09:30:15.500000+01:00",
    "yesterday 14:00": "2026-11-09T14:00:00+01:00",
    "2026-07-01 14:00": "2026-07-01T14:00:00+02:00",
    "2026-11-01T14:00:00": "2026-11-01T14:00:00+01:00",
}


@pytest.mark.parametrize("text", FORMS)
def test_local_form(text):
    """A time as people write it is meant in the zone of the host, with its daylight saving time then."""
    assert parse_local(text, at(NOW)) == at(FORMS[text])


def test_a_time_before_the_clock_changed_counts_real_hours():
    """-2h over the end of daylight saving time is two hours of real time."""
    assert parse_local("-2h", at("2026-10-25T03:30:00+01:00")) == at("2026-10-25T02:30:00+02:00")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("soon", "is no time: write epoch seconds"),
        ("", "is no time"),
        ("-", "is no time"),
        ("-5", "is no time"),
        ("-5x", "is no time"),
        ("yesterday", "is no time"),
        ("tomorrow 9:00", "is no time"),
        ("25:00", "is no time of day"),
        ("9:61", "is no time of day"),
        ("14:00", "is in the future (it is now 13:30): write 'yesterday 14:00'"),
        ("today 14:00", "is in the future"),
        ("-999999d", "is no time"),
        ("\u0665:00", "is no time"),
    ],
)
def test_no_time_is_refused(text, reason):
    """A text that is no time, or a time in the future, is refused with a reason."""
    with pytest.raises(ValueError, match=r".") as refused:
        parse_local(text, at(NOW))
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(5, 5.0), ("1793534400.5", 1793534400.5), ("2026-11-01T13:00:00+01:00", 1793534400.0),
     ("2026-11-01T12:00:00", 1793534400.0), ("nan", None), (True, None), (None, None), ("x", None), ([], None)],
)  # fmt: skip
def test_time_of_a_line(value, expected):
    """A line of input has epoch seconds or RFC 3339, in UTC where it names no offset."""
    assert parse_moment(value) == expected


SECOND = 1_793_534_400  # 2026-11-01 12:00:00 UTC


def bounds(text: str, end: str) -> tuple[int, int]:
    """Return the times that `since` and an option of an end make of a text, in ns after SECOND."""
    begin, last = (
        convert_moment(click.Context(click.Command("x")), click.Option([f"--{name}"]), text) for name in ("since", end)
    )
    return round(begin * 1e6) * 1000 - SECOND * 10**9, nanoseconds(last) - SECOND * 10**9


NUMBERS = {
    f"{SECOND}": (0, 999),
    f"{SECOND}123": (123_000_000, 123_999_999),
    f"{SECOND}123.5": (123_500_000, 123_599_999),
    f"{SECOND}123456": (123_456_000, 123_456_999),
    f"{SECOND / 10**9}e9": (0, 999),
}


@pytest.mark.parametrize("text", NUMBERS)
def test_a_number_is_read_by_its_size(text):
    """A number is in seconds, milliseconds or microseconds, and stands for all of its last digit."""
    assert bounds(text, "at") == NUMBERS[text]


def test_a_date_without_hyphens_is_a_date(capsys):
    """20261101 is the begin of a day of the host's zone, and not a day of 1970 in seconds."""
    begin, end = bounds("20261101", "until")
    assert (begin, end) == (-13 * 3600 * 10**9, -13 * 3600 * 10**9 + 999)
    assert "until 2026-11-01 00:00:00 CET (+0100)" in capsys.readouterr().err
    with pytest.raises(click.BadParameter, match="is no time"):
        bounds("20261301", "until")


@pytest.mark.parametrize("stamp", [1_793_534_401_123_456_789, 1_793_534_401_123_456_999, 1_795_898_084_274_610_023])
def test_the_stamp_of_an_event_finds_it(stamp):
    """The `timestamp` of JSON, in ns or seconds, finds its event, and as an end also its quotient, which is rounded."""
    after = stamp - SECOND * 10**9
    for text in (str(stamp), f"{stamp // 10**9}.{stamp % 10**9}"):
        begin, end = bounds(text, "at")
        assert after - 1000 < begin <= after <= end < after + 2000
    assert after <= bounds(str(stamp / 1e9), "at")[1] < after + 2000


FRACTIONS = {
    "2026-11-01T12:00:00Z": (0, 999),
    "2026-11-01T12:00:00.0Z": (0, 99_999_999),
    "2026-11-01T12:00:00.012Z": (12_000_000, 12_999_999),
    "2026-11-01 13:00:00.012": (12_000_000, 12_999_999),
    "2026-11-01T13:00:00,01234+01:00": (12_340_000, 12_349_999),
    "2026-11-01T12:00:00.012345Z": (12_345_000, 12_345_999),
    "2026-11-01T12:00:00.012345678Z": (12_345_000, 12_345_999),
    f"{SECOND}.012": (12_000_000, 12_999_999),
    f"{SECOND}.012345": (12_344_000, 12_345_999),  # it may be rounded up
}


@pytest.mark.parametrize("text", FRACTIONS)
def test_a_fraction_stands_for_all_of_its_last_digit(text):
    """An option that means an end has the end of the last digit, `since` has its begin; a whole second is exact."""
    assert bounds(text, "at") == bounds(text, "until") == FRACTIONS[text]


def test_a_lookup_with_the_printed_time_of_an_event_finds_it():
    """The time that the table prints for an answer, cut to the millisecond, finds that answer."""
    shown = dnstrail("--capture", "demo", "--output", "table", TZ=ZONE).stdout
    time_of_answer = next(line[:12] for line in shown.splitlines() if "A shop.example ->" in line)
    found = dnstrail("get", "--capture", "demo", "--at", f"2026-11-01 {time_of_answer}", "192.0.2.10", TZ=ZONE)
    assert (found.returncode, "shop.example" in found.stdout) == (0, True)


def test_the_zone_of_a_local_time_is_printed():
    """The command prints the time and the zone that it reads into a local form, and nothing for a time with a zone."""
    demo = ("--capture", "services/probe/dnstrail_probe/sources/demo.pcap")
    local = dnstrail("get", *demo, "--at", "2026-11-01 13:00:01", "shop.example", TZ=ZONE)
    exact = dnstrail("get", *demo, "--at", "2026-11-01T12:00:01Z", "shop.example", TZ=ZONE)
    assert local.stderr == "dnstrail: as of 2026-11-01 13:00:01 CET (+0100)\n"
    assert exact.stderr == ""
    assert local.stdout == exact.stdout != ""


def test_a_bad_time_is_code_2():
    """A value of --at that is no time exits with 2 and names the forms."""
    done = dnstrail("get", "--at", "-5x", "a.example")
    assert done.returncode == 2
    assert "yesterday 14:00" in done.stderr
