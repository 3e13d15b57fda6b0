"""The cost of a transaction with 20 rules `[[watch]]`, and of a watch list of a million names."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import structlog
from facts_bus import transactions
from figures import Figure

from dnstrail.datasource import DataSources
from dnstrail.events import DNS_TRANSACTION, Event
from dnstrail.protocol.facts import unpacked_fact
from dnstrail.signature import Finding, SignatureContext
from dnstrail_cache.facts import captured_of
from dnstrail_signatures.builtin.watched_name import WatchedName, WatchedNameSettings
from dnstrail_signatures.detection.watch_table import WatchTable, read_watch_list
from dnstrail_signatures.engine.engine import Engine
from dnstrail_signatures.loading.watch_rule import WatchRule

RULES, SUFFIXES, NAMES, RUNS = 20, 100_000, 1_000_000, 5
_RESPONSES = "answered", "no_data", "nxdomain", "refused", "failed", "truncated"


def measure(capture: str) -> Iterator[Figure]:
    """Measure the transactions of a capture, and of fresh names: no rule but the last one matches them."""
    facts = [unpacked_fact(DNS_TRANSACTION, captured_of(one)) for one in transactions(capture)]
    events = [Event(DNS_TRANSACTION, one, ("s", 0), "host") for one in facts]
    few = [f"bad{number}.example-{number % 7}.net" for number in range(SUFFIXES)]
    rules = [WatchRule(name=str(place), suffixes=tuple(few[place::RULES])) for place in range(RULES)]
    scoped = [WatchRule(name=str(place), containers=("web",), outcomes=("failed",)) for place in range(RULES)]
    one = [WatchRule(name="one", suffixes=("bad.example",))]
    every = [WatchRule(name="every", outcomes=_RESPONSES)]
    yield Figure(f"a transaction, {RULES} rules, {SUFFIXES:,} suffixes", _cost(rules, events), "us")
    yield Figure("the same, through the engine", _cost(rules, events, engine=True), "us")
    yield Figure("a transaction, one rule with one suffix", _cost(one, events), "us")
    yield Figure(f"a transaction, {RULES} rules without suffixes", _cost(scoped, events), "us")
    yield Figure("a transaction that is reported", _cost(every, events), "us")
    yield from _watch_list()


def _cost(rules: list[WatchRule], events: list[Event], *, engine: bool = False) -> float:
    """Return the least time of a transaction. `engine`: with the time budget, and what else the engine adds."""
    times = []
    for _ in range(RUNS):
        cls = type("Ruled", (WatchedName,), {"settings": WatchedNameSettings(watch=tuple(rules))})
        if engine:
            on_event = Engine([cls], DataSources(), lambda _: None).on_event
        else:
            signature = cls()
            signature.init(SignatureContext(_ignored, DataSources(), structlog.get_logger()))
            on_event = signature.on_event
        began = time.thread_time()
        for event in events:
            on_event(event)
        times.append(time.thread_time() - began)
    return min(times) / len(events) * 1e6


def _ignored(_finding: Finding) -> None:
    """Take a finding."""


def _watch_list() -> Iterator[Figure]:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(f"host{number:06x}.bad{number % 9973}.example-{number % 7}.com\n" for number in range(NAMES))
        file.flush()
        before, began = _resident(), time.thread_time()
        table = WatchTable()
        table.add(read_watch_list(Path(file.name)), 1)
        yield Figure("a watch list of a million names: load", time.thread_time() - began, "s")
        yield Figure("a watch list of a million names: memory", (_resident() - before) / 2**20, "MiB")
    began = time.thread_time()
    for _ in range(SUFFIXES):
        table.of("www.shop.example.com")
    yield Figure("a watch list of a million names: a name", (time.thread_time() - began) / SUFFIXES * 1e6, "us")


def _resident() -> int:
    """Return the resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
