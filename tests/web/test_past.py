"""What the history knows, as the page reads it."""

from __future__ import annotations

import asyncio
import json

from builders.facts import BEGIN, SECOND, fact_of
from builders.log_entries import fill
from dnstrail.dns.rdata import A
from dnstrail_web import past as module
from dnstrail_web.past import PastRecords


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
