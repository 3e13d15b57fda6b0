"""What the history knows, as the page reads it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime

import pytest

from builders.facts import BEGIN, SECOND, fact_of
from builders.log_entries import fill
from dnstrail.captured import LAST_TIME
from dnstrail.dns.rdata import A
from dnstrail_web import past as module
from dnstrail_web.parameters import Time, read_parameters
from dnstrail_web.past import PastRecords
from dnstrail_web.routes import ROUTES

STAMP = BEGIN + 123_450_789
FORMS = {
    "ns": f"{STAMP}",
    "us": f"{STAMP // 10**3}",
    "ms": f"{STAMP // 10**6}",
    "nine digits": f"{STAMP // SECOND}.{STAMP % SECOND:09}",
    "six digits": f"{STAMP // SECOND}.123450",
    "three digits": f"{STAMP // SECOND}.123",
    "RFC 3339": f"{datetime.fromtimestamp(STAMP // SECOND, UTC):%Y-%m-%dT%H:%M:%S}.123Z",
}


@pytest.mark.parametrize("form", FORMS)
def test_an_entry_is_selected_by_its_own_time(tmp_path, form):
    """The time of an entry selects it as `since` and as `until`, to the last digit that is written."""
    grain = 10 ** {"ns": 3, "us": 3, "nine digits": 3, "six digits": 3}.get(form, 6)
    begin = STAMP // grain * grain
    end = begin + grain - 1
    before, after = begin - 1001, end + 1000  # a float names no single nanosecond: each may be a microsecond off
    times = {"before": before, "begin": begin, "own": STAMP, "end": end, "after": after}
    fill(tmp_path / "h", [fact_of(n, ended=times[name], name=name) for n, name in enumerate(times)])
    of_log = next(route for route in ROUTES if route.name == "log").parameters

    async def names() -> list[str]:
        asked = read_parameters([(name, FORMS[form]) for name in ("since", "until")], of_log)
        chunks = [chunk async for chunk in await PastRecords(tmp_path / "h").log(asked)]
        return [json.loads(line)["name"] for line in b"".join(chunks).splitlines()]

    assert asyncio.run(names()) == ["begin", "own", "end"]


def test_a_time_beyond_all_entries_is_the_last():
    """A time after the last that an entry can have selects the last, and a negative one the first."""
    for text, expected in (("1e300", LAST_TIME), ("9999-12-31T23:59:59Z", LAST_TIME), ("-5", 0)):
        asked = {name: Time(is_begin=name == "since").value(text) for name in ("since", "until")}
        selection, _ = module._selection(asked)
        assert expected - 1000 < selection.since <= expected <= selection.until <= min(expected + 999, LAST_TIME)


def test_of_many_new_things_the_newest_are_sent(tmp_path, monkeypatch):
    """Beyond the bound the oldest are left out, and the reply states it."""
    names = [f"n{number}.example" for number in range(5)]
    fill(
        tmp_path / "h",
        [
            fact_of(number, ended=BEGIN + number * SECOND, relations=((name, A, "192.0.2.1", 60),))
            for number, name in enumerate(names)
        ],
    )
    past = PastRecords(tmp_path / "h")
    whole = json.loads(asyncio.run(past.new(0)))
    assert whole["complete"]
    assert {one["name"] for one in whole["data"] if one["kind"] == "domain"} == {*names}
    monkeypatch.setattr(module, "MOST_NEW", 2)
    cut = json.loads(asyncio.run(past.new(0)))
    assert cut == {**whole, "data": whole["data"][-2:], "complete": False}
