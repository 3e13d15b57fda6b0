"""Entries of the log: as the bus brings a fact, and as the store is filled with them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from builders.facts import BEGIN, progress_of
from dnstrail.captured import Captured, Flow, Process
from dnstrail.events import DNS_TRANSACTION, NET_CONNECTION, Event
from dnstrail.history.fact import Fact, StageFact
from dnstrail.history.log.entries import LoggedConnection, LoggedQuestion, read_entry
from dnstrail.protocol.facts import packed_fact, unpacked_fact
from dnstrail_history.store.store import FactStore
from live.workers import FakeClock, wait_until

ASKER = Process(
    7,
    "curl",
    "/usr/bin/curl",
    6,
    1000,
    "c0ffee",
    container_name="web-1",
    container_image="web:1",
    unit="web.service",
    slice="web.slice",
    container_labels=(("app.kubernetes.io/name", "web"),),
)
FLOW = Flow(bytes([10, 0, 0, 2]), 40000, bytes([192, 0, 2, 7]), 443, "tcp")


def live(fact: Fact) -> LoggedQuestion:
    """Return the entry of a fact that comes by the bus."""
    values = [getattr(fact.values, name) for name in fact.values.__struct_fields__]
    captured = packed_fact(fact.ended, fact.flow, fact.process, msgspec.to_builtins(values, builtin_types=(bytes,)))
    return read_entry(Event(DNS_TRANSACTION, unpacked_fact(DNS_TRANSACTION, captured), None, fact.host), LoggedQuestion)


def live_stage(fact: StageFact) -> LoggedConnection:
    """Return the entry of a stage of a connection that comes by the bus."""
    values = [getattr(fact.values, name) for name in fact.values.__struct_fields__]
    captured = unpacked_fact(NET_CONNECTION, packed_fact(fact.time, fact.flow, fact.process, values))
    return read_entry(Event(NET_CONNECTION, captured, None, fact.host), LoggedConnection)


def connection(**args: Any) -> LoggedConnection:
    """Return the entry of a connection that was closed."""
    closed = {"id": "s/net_tcp_connect/1/2/end", "stage": "end", "why": "closed", "lasted": 3_000_000_000, "socket": 9}
    stated = closed | {"name": "shop.example", "transport": "tcp", "bytes_sent": 100, "bytes_received": 2000} | args
    known = {name: value for name, value in stated.items() if value is not None}
    return read_entry(Event(NET_CONNECTION, Captured(BEGIN, b"", FLOW, ASKER, known), None, "web1"), LoggedConnection)


def fill(folder: Path, facts: Iterable[Fact | StageFact], finished: int = 0) -> None:
    """Store facts of any age, and wait until some segments are finished."""
    with closing(FactStore(folder, FakeClock(), days=1 << 40)) as store:
        for number, fact in enumerate(facts):
            assert store.add(fact)
            if number % 5 == 0:
                assert store.commit(progress_of(number))
        assert store.commit(progress_of(1 << 20))
        wait_until(lambda: store.step() or store.counters["finished"] >= finished, "the full segments")
