"""Facts for the store: single ones, any ones, and those that a folder holds."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from msgspec.structs import replace

from dnstrail.captured import LAST_TIME, Flow, Process
from dnstrail.protocol.facts import TransactionValues, without_owners
from dnstrail.protocol.turn_follower import Position
from dnstrail_history.fact import MOST_PLACE, Fact, FactId, read_id
from dnstrail_history.store.closing import FINAL
from dnstrail_history.store.database import open_reader
from dnstrail_history.store.lives import LIVES, RelationLife, read_lives
from dnstrail_history.store.rows import read_facts
from dnstrail_history.store.segment import SCHEMA, StoredProgress, Stretch

SECOND = 1_000_000_000
BEGIN = 1_795_000_000 * SECOND  # in November 2026
CURL = Process(7, "curl", "/usr/bin/curl", container_id="c0ffee", container_name="web", start_time=5)
FLOW = Flow(bytes([10, 0, 0, 2]), 40000, bytes([10, 0, 0, 53]), 53, namespace=3)
RELATIONS = (("a.example", "CNAME", "b.example", 60), ("b.example", "A", "192.0.2.1", 30))


def fact_of(
    number: int = 0,
    *,
    ended: int = BEGIN,
    process: Process | None = CURL,
    relations: tuple[tuple[str, str, str, int], ...] = RELATIONS,
    **values: Any,
) -> Fact:
    """Return an answered question; each number has another id."""
    text = f"s/net_packet_dns/{number // 256}/{number % 256}/end"
    name = values.pop("name", relations[0][0] if relations else "a.example")
    stated: dict[str, Any] = {
        "id": text,
        "transport": "udp",
        "socket": 77,
        "resolver": None,
        "resolver_port": None,
        "hop": "client",
        "asked_for": None,
        "name": name,
        "type": "A",
        "outcome": "answered",
        "rcode": 0,
        "tries": 1,
        "waited": 20_000_000,
        "relations": tuple(without_owners(name, relations)),
        "admitted": True if relations else None,
        "matched": True,
    }
    return Fact(read_id(text), None, "web1", ended, process, FLOW, TransactionValues(**(stated | values)))


def progress_of(turn: int, until: int = BEGIN) -> StoredProgress:
    """Return how far facts are stored: to the end of a turn."""
    return StoredProgress({"cache": Position(turn, {"dns_transaction": turn}, {})}, Stretch(BEGIN, until))


def stored(folder: Path) -> list[Fact]:
    """Return the facts of all segments of a folder, in the order in which they were stored."""
    found: list[Fact] = []
    for path in sorted([*folder.glob("*.open"), *folder.glob("*.segment")], key=lambda path: path.stem):
        with closing(open_reader(path, SCHEMA, final=path.suffix == FINAL)) as database:
            found += read_facts(database)
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
    st.sampled_from(["s/net_packet_dns", "key.t/net_packet_dns"]),
    st.just("end"),
    st.integers(0, 3),
    st.integers(0, MOST_PLACE),
)
_maybe = st.none() | st.booleans()
_relations = st.lists(
    st.tuples(st.none() | _names, st.sampled_from(["A", "CNAME"]), _names, st.integers(0, 1 << 32)), max_size=3
)


@st.composite
def facts(draw: st.DrawFn) -> Fact:
    """Return any fact that the bus can carry, in few batches: some have one id."""
    identity, asked_for = draw(_ids), draw(st.none() | _ids)
    flow, resolver, name = draw(st.none() | _flows), draw(st.none() | _texts), draw(_names)
    values = TransactionValues(
        str(identity),
        None if flow is None else flow.transport,
        draw(st.none() | _numbers),
        resolver,
        draw(st.none() | st.integers(0, 65535)),
        draw(st.sampled_from(["client", "forwarder", "served"])),
        None if asked_for is None else str(asked_for),
        name,
        draw(st.sampled_from(["A", "TYPE65280"])),
        draw(st.sampled_from(["answered", "unanswered"])),
        draw(st.none() | _numbers),
        draw(_numbers),
        draw(st.none() | _numbers),
        (),
        *(draw(st.none() | _numbers), draw(_maybe), draw(_maybe), draw(_maybe), draw(_maybe)),
    )
    process, ended = draw(st.none() | _processes), draw(st.integers(0, LAST_TIME))
    given = Fact(identity, asked_for, draw(_texts), ended, process, flow, values)
    return _related(given, draw(_relations))


def _related(fact: Fact, relations: list[Any]) -> Fact:
    """Return a fact with relations, in the form in which they travel."""
    owned = {relation[:3]: relation for relation in replace(fact.values, relations=tuple(relations)).owned}
    packed = tuple(without_owners(fact.values.name, owned.values()))
    return replace(fact, values=replace(fact.values, relations=packed))
