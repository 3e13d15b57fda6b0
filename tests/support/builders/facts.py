"""Facts for the store: single ones, any ones, and those that a folder holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from sqlite3 import Connection, OperationalError, connect
from typing import Any, TypeVar

from hypothesis import strategies as st
from msgspec.structs import replace

from dnstrail.captured import LAST_TIME, Flow, Process
from dnstrail.events import STAGES
from dnstrail.history.closing import FINAL
from dnstrail.history.database import open_reader
from dnstrail.history.fact import MOST_PLACE, Fact, FactId, StageFact, read_id
from dnstrail.history.lives import LIVES, RelationLife, read_lives
from dnstrail.history.rows import read_facts, read_stages
from dnstrail.history.segment import SCHEMA, StoredProgress, Stretch
from dnstrail.protocol.facts import ConnectionValues, TransactionValues, without_owners
from dnstrail.protocol.turn_follower import Position

SECOND = 1_000_000_000
BEGIN = 1_795_000_000 * SECOND  # in November 2026
CURL = Process(7, "curl", "/usr/bin/curl", container_id="c0ffee", container_name="web", start_time=5)
OF_UNIT = replace(CURL, unit="web.service", slice="web.slice")
FLOW = Flow(bytes([10, 0, 0, 2]), 40000, bytes([10, 0, 0, 53]), 53, namespace=3)
TO_WEB = Flow(bytes([10, 0, 0, 2]), 40001, bytes([192, 0, 2, 1]), 443, "tcp", namespace=3)
RELATIONS = (("a.example", 5, "b.example", 60), ("b.example", 1, "192.0.2.1", 30))

_Stored = TypeVar("_Stored")


def fact_of(
    number: int = 0,
    *,
    ended: int = BEGIN,
    process: Process | None = CURL,
    relations: tuple[tuple[str, int, str, int], ...] = RELATIONS,
    **values: Any,
) -> Fact:
    """Return an answered question; each number has another id."""
    text = f"s/{number // 256}/{number % 256}"
    name = values.pop("name", relations[0][0] if relations else "a.example")
    stated: dict[str, Any] = {
        "id": text,
        "transport": None,
        "socket": 77,
        "resolver": None,
        "resolver_port": None,
        "hop": 0,
        "asked_for": None,
        "name": name,
        "type": 1,
        "outcome": 0,
        "rcode": 0,
        "tries": 1,
        "waited": 20_000_000,
        "relations": tuple(without_owners(name, relations)),
        "admitted": True if relations else None,
        "matched": True,
    }
    asked_for = read_id(values["asked_for"]) if "asked_for" in values else None
    return Fact(read_id(text), asked_for, "web1", ended, process, FLOW, TransactionValues(**(stated | values)))


def stage_of(
    number: int = 0, stage: str = "opened", *, time: int = BEGIN, flow: Flow = TO_WEB, **values: Any
) -> StageFact:
    """Return a stage of a connection; each number is another connection."""
    event = f"s/net_tcp_connect/{number // 256}/{number % 256}"
    stated = {"socket": 78, "name": "a.example", "bound": "thread"} | values
    return StageFact(
        read_id(event), "web1", time, CURL, flow, ConnectionValues(f"{event}/{stage}", stage, None, **stated)
    )


def progress_of(turn: int, until: int = BEGIN) -> StoredProgress:
    """Return how far facts are stored: to the end of a turn."""
    return StoredProgress({"cache": Position(turn, {"dns_transaction": turn}, {})}, Stretch(BEGIN, until))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock a segment for a block, as the worker does while it finishes the segment."""
    with closing(connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=DELETE")
        database.execute("BEGIN EXCLUSIVE")
        yield


def stored(folder: Path) -> list[Fact]:
    """Return the transactions of all segments of a folder, in the order in which they were stored."""
    return read_segments(folder, read_facts)


def stored_stages(folder: Path) -> list[StageFact]:
    """Return the stages of connections of all segments of a folder, in the order in which they were stored."""
    return read_segments(folder, read_stages)


def read_segments(folder: Path, read: Callable[[Connection], Iterable[_Stored]]) -> list[_Stored]:
    """Return what is read from all segments of a folder, beside the worker that writes and finishes them."""
    found: list[_Stored] = []
    paths = {path.stem: path for path in (*folder.glob("*.open"), *folder.glob("*.segment"))}
    for _, path in sorted(paths.items()):  # a segment that is finished, and renamed, in this moment counts once
        try:
            database = open_reader(path, SCHEMA, final=path.suffix == FINAL)
        except OperationalError:  # it has just been finished, and renamed
            database = open_reader(path.with_suffix(FINAL), SCHEMA, final=True)
        with closing(database):
            found += read(database)
    return found


def lives(folder: Path) -> list[RelationLife]:
    """Return the lives of all years of a folder."""
    found: list[RelationLife] = []
    for path in sorted(folder.glob("*.lives")):
        with closing(open_reader(path, LIVES, final=False)) as database:
            found += read_lives(database)
    return sorted(found)


_numbers = st.integers(0, (1 << 63) - 1)
_texts = st.text(st.characters(codec="utf-8"), max_size=12)
_names = st.sampled_from(["a.example", "b.example", "xn--a.example", "'); DROP TABLE texts; --", "", "\0"]) | _texts
_addresses = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)
_processes = st.builds(
    Process,
    *(st.integers(0, 3), _texts, _texts, _numbers, _numbers, _texts, _numbers, _numbers, _texts, _texts),
    *(_numbers, _numbers, st.integers(0, 2), _numbers),
    container_labels=st.dictionaries(_texts, _texts, max_size=2).map(lambda labels: tuple(labels.items())),
)
_flows = st.builds(
    lambda *values, namespace: Flow(*values, namespace=namespace),
    _addresses,
    st.integers(0, 65535),
    _addresses,
    st.integers(0, 65535),
    st.sampled_from(["udp", "tcp"]),
    namespace=_numbers,
)
_ids = st.builds(
    FactId,
    st.sampled_from(["s", "key.t"]),
    st.integers(0, 3),
    st.integers(0, MOST_PLACE),
)
_events = st.sampled_from(["s/net_tcp_connect", "key.t/net_udp_connect"])
_maybe = st.none() | st.booleans()
_relations = st.lists(
    st.tuples(_names, st.sampled_from([1, 5]), _names, st.integers(0, (1 << 31) - 1)),
    max_size=3,
    unique_by=lambda one: one[:3],
)


@st.composite
def facts(draw: st.DrawFn) -> Fact:
    """Return any fact that the bus can carry, in few batches: some have one id."""
    identity, asked_for = draw(_ids), draw(st.none() | _ids)
    flow, resolver, name = draw(st.none() | _flows), draw(st.none() | _addresses), draw(_names)
    values = TransactionValues(
        str(identity),
        None,
        draw(st.none() | _numbers),
        resolver,
        draw(st.none() | st.integers(0, 65535)),
        draw(st.integers(0, 2)),
        None if asked_for is None else str(asked_for),
        name,
        draw(st.sampled_from([1, 65280])),
        draw(st.sampled_from([0, 6])),
        draw(st.none() | _numbers),
        draw(_numbers),
        draw(st.none() | _numbers),
        tuple(without_owners(name, draw(_relations))),
        *(draw(st.none() | _numbers), draw(_maybe), draw(_maybe), draw(_maybe), draw(_maybe)),
    )
    process, ended = draw(st.none() | _processes), draw(st.integers(0, LAST_TIME))
    return Fact(identity, asked_for, draw(_texts), ended, process, flow, values)


@st.composite
def stages(draw: st.DrawFn) -> StageFact:
    """Return any stage of a connection that the bus can carry, in few batches: some have one id."""
    event, stage = draw(_ids)._replace(start=draw(_events)), draw(st.sampled_from(STAGES))
    flow = replace(draw(_flows), source=draw(st.just(b"") | _addresses))
    values = ConnectionValues(
        f"{event}/{stage}",
        stage,
        None,
        *(draw(st.none() | _numbers), draw(st.none() | _names), draw(st.none() | _texts), draw(st.none() | _numbers)),
        *(draw(_maybe), draw(st.none() | _texts), draw(st.none() | _texts)),
        *(draw(st.none() | _numbers), draw(st.none() | _numbers)),
    )
    return StageFact(event, draw(_texts), draw(st.integers(0, LAST_TIME)), draw(st.none() | _processes), flow, values)
