"""The transactions of a segment among which those of a selection are: by its indexes and its small tables."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from ipaddress import IPv4Network
from itertools import islice, takewhile
from typing import Any, Final, NamedTuple

import msgspec

from dnstrail.events import OUTCOMES
from dnstrail.history.log.selection import LogSelection, Network
from dnstrail.history.rows import read_labels
from dnstrail.history.segment_keys import HashedKey, hash_key, key_of_end

_MOST_IDS: Final = 1000  # of contents that fit: with more of them, each transaction is read
_FEW: Final = 5000  # transactions that are found by an index and sorted; more are read in their order
_INDEXES: Final = {
    "name": "transactions_by_name",
    "answer": "transactions_by_answer",
    "process": "transactions_by_process",
}
_SPECIAL: Final = re.compile(r"[*?\[\]]")
_BEYOND: Final = "\U0010ffff"
_IDS = msgspec.msgpack.Decoder(tuple[int, ...]).decode


class Candidates(NamedTuple):
    """A condition, its values, and the index that finds the candidates faster than a look at each transaction."""

    condition: str = "1"
    values: tuple[Any, ...] = ()
    by_index: str = ""


def candidates(database: sqlite3.Connection, selection: LogSelection, *, is_final: bool) -> Candidates | None:
    """Return where a selection looks in a segment; None if nothing fits. Only a final segment has indexes.

    The selection still decides: a candidate may not fit.
    """
    if is_final and _is_timed(selection) and not _overlaps(database, selection):
        return None
    bounds = (("ended >= ?", selection.since), ("ended <= ?", selection.until), ("waited >= ?", selection.slower))
    conditions = [condition for condition, bound in bounds if bound is not None]
    values = [bound for _, bound in bounds if bound is not None]
    index = ""
    for column, ids in _fitting(_Segment(database, is_final), selection):
        if not ids:
            return None
        if len(ids) > _MOST_IDS:
            continue
        within = f"{column} IN ({_places(ids)})"
        conditions.append(within)
        values += ids
        if is_final and not index and column in _INDEXES and _are_few(database, _INDEXES[column], within, ids):
            index = _INDEXES[column]
    return Candidates(" AND ".join(conditions) or "1", tuple(values), index)


def last_stages(database: sqlite3.Connection, selection: LogSelection, *, is_final: bool) -> Candidates | None:
    """Return where a selection looks for connections: among the stages after which no other one is published."""
    if is_final and _is_timed(selection) and not _overlaps(database, selection):
        return None
    bounds = (("time >= ?", selection.since), ("time <= ?", selection.until))
    conditions = [condition for condition, bound in bounds if bound is not None]
    conditions.append(
        "stage IN (SELECT id FROM stages WHERE stage = 'end' OR (stage = 'result' AND ifnull(connected, 0) = 0))"
    )
    return Candidates(" AND ".join(conditions), tuple(bound for _, bound in bounds if bound is not None))


def keys_of(selection: LogSelection) -> list[HashedKey]:
    """Return the keys that each segment has in which something fits."""
    keys = []
    if selection.name is not None:
        end = _SPECIAL.split(selection.pattern)[-1]
        keys.append(end if end == selection.pattern else key_of_end(end))
    if selection.network is not None and selection.network.num_addresses == 1:
        keys.append(str(selection.network.network_address))
    if selection.process is not None and not _SPECIAL.search(selection.process):
        keys.append(selection.process)
    return [hash_key(key) for key in keys if key]


def exact_name(selection: LogSelection) -> str | None:
    """Return the only name that fits; None if others may fit."""
    pattern = selection.pattern
    return None if selection.name is None or _SPECIAL.search(pattern) else pattern


class _Segment(NamedTuple):
    """An open segment; `is_final`: it has indexes."""

    database: sqlite3.Connection
    is_final: bool


def _is_timed(selection: LogSelection) -> bool:
    return selection.since is not None or selection.until is not None


def _overlaps(database: sqlite3.Connection, selection: LogSelection) -> bool:
    first, last = database.execute("SELECT first, last FROM extent").fetchone()
    since, until = selection.since, selection.until
    return (since is None or last >= since) and (until is None or first <= until)


def _fitting(segment: _Segment, selection: LogSelection) -> Iterator[tuple[str, list[int]]]:
    """Yield columns of transactions with the ids of their contents that fit, the most selective first.

    A list of more than _MOST_IDS need not be complete.
    """
    if selection.name is not None:
        yield "name", _names(segment, selection)
    if selection.network is not None:
        yield "answer", _answers(segment, selection)
    if any(one is not None for one in (selection.process, selection.container, selection.unit)):
        yield "process", _processes(segment.database, selection)
    if selection.outcomes:
        found = segment.database.execute("SELECT id, outcome FROM endings")
        yield "ending", _first(number for number, outcome in found if OUTCOMES[outcome] in selection.outcomes)


def _first(ids: Iterator[int]) -> list[int]:
    return [*islice(ids, _MOST_IDS + 1)]


def _places(ids: list[int]) -> str:
    return ", ".join("?" * len(ids))


def _are_few(database: sqlite3.Connection, index: str, within: str, ids: list[int]) -> bool:
    if len(ids) == 1:
        return True  # the index has their order
    few = f"SELECT 1 FROM transactions INDEXED BY {index} WHERE {within} LIMIT {_FEW}"  # noqa: S608 - our own names
    [count] = database.execute(f"SELECT count(*) FROM ({few})", ids).fetchone()  # noqa: S608 - as above
    return int(count) < _FEW


def _names(segment: _Segment, selection: LogSelection) -> list[int]:
    pattern = selection.pattern
    suffix = _SPECIAL.split(pattern)[-1]
    if suffix == pattern:
        return _same(segment, pattern)
    if suffix:
        found = _ending_in(segment, suffix)
    else:
        found = segment.database.execute("SELECT text, id FROM texts WHERE text GLOB ?", (_begin(pattern) + "*",))
    return _first(number for text, number in found if selection.fits_name(text))


def _same(segment: _Segment, text: str) -> list[int]:
    if segment.is_final:
        found = segment.database.execute("SELECT text FROM names WHERE reversed = ?", (text[::-1],))
    else:
        found = segment.database.execute("SELECT id FROM texts WHERE text = ?", (text,))
    return [number for [number] in found]


def _ending_in(segment: _Segment, suffix: str) -> Iterator[tuple[str, int]]:
    """Return the texts with an end, which contains no special character, and their ids."""
    if not segment.is_final:
        return segment.database.execute("SELECT text, id FROM texts WHERE text GLOB ?", (f"*{suffix}",))
    bounds = suffix[::-1], suffix[::-1] + _BEYOND
    found = segment.database.execute("SELECT reversed, text FROM names WHERE reversed BETWEEN ? AND ?", bounds)
    return ((text[::-1], number) for text, number in found)


def _begin(pattern: str) -> str:
    return _SPECIAL.split(pattern, maxsplit=1)[0]


def _answers(segment: _Segment, selection: LogSelection) -> list[int]:
    """Return the answers with an address of the network."""
    network = selection.network
    assert network is not None  # noqa: S101 - for the type
    database = segment.database
    if network.num_addresses == 1:
        texts = _same(segment, str(network.network_address))
    else:
        found = database.execute("SELECT text, id FROM texts WHERE text GLOB ?", (_beginning(network) + "*",))
        texts = _first(number for text, number in found if selection.fits_address(text))
    if not texts or len(texts) > _MOST_IDS:
        return texts
    if segment.is_final:
        within = f"SELECT DISTINCT answer FROM related WHERE text IN ({_places(texts)})"  # noqa: S608 - our own names
        return _first(number for [number] in database.execute(within, texts))
    within = f"SELECT id FROM relations WHERE target IN ({_places(texts)})"  # noqa: S608 - as above
    relations = {number for [number] in database.execute(within, texts)}
    packed = database.execute("SELECT id, relations FROM answers")
    return _first(number for number, ids in packed if not relations.isdisjoint(_IDS(ids)))


def _beginning(network: Network) -> str:
    """Return the text with which every address of a network begins, as far as it is certain."""
    if isinstance(network, IPv4Network):
        whole = network.prefixlen // 8
        return "".join(f"{byte}." for byte in network.network_address.packed[:whole])
    groups = network.network_address.exploded.split(":")[: network.prefixlen // 16]
    certain = [*takewhile(bool, (group.lstrip("0") for group in groups))]  # a group of zeros may be left out
    return "".join(f"{group}:" for group in certain)


def _processes(database: sqlite3.Connection, selection: LogSelection) -> list[int]:
    programs = database.execute(
        "SELECT id, name, container_id, container_name, container_image, labels, unit, slice FROM programs"
    )
    fitting = [
        (number, selection.fits_program(name))
        for number, name, identity, shown, image, labels, unit, slice_ in programs
        if selection.fits_container(identity, shown, image, read_labels(labels)) and selection.fits_unit(unit, slice_)
    ]
    named = {number for number, is_named in fitting if is_named}
    inside = {number for number, _ in fitting}
    found = database.execute("SELECT id, pid, program FROM processes")
    return _first(
        number
        for number, pid, program in found
        if program in named or (program in inside and selection.process == str(pid))
    )
