"""The domains, programs, resolvers and servers of a folder of the history, each with the time of its first use."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from dnstrail.captured import LAST_TIME
from dnstrail.dns.names import address_text, known_address
from dnstrail.history.closing import FINAL, OPEN
from dnstrail.history.database import open_reader
from dnstrail.history.lives import AskingProgram
from dnstrail.history.lives_reader import LivesReader, files_of, leaving_out_damaged
from dnstrail.history.segment import SCHEMA
from dnstrail.registered_domain import registered_domain

DOMAIN, PROGRAM, RESOLVER, SERVER = "domain", "program", "resolver", "server"
_DNS_PORT: Final = 53
_SECOND: Final = 1_000_000_000  # ns
_RESOLVERS: Final = """
    SELECT id, coalesce(resolver, destination), iif(resolver IS NULL, destination_port, resolver_port) FROM paths
    WHERE hop IS NOT NULL AND coalesce(resolver, destination) IS NOT NULL"""
_SERVERS: Final = "SELECT id, destination, NULL FROM paths WHERE hop IS NULL AND destination IS NOT NULL"
_FIRST: Final = """
    SELECT firsts.path, first, coalesce(nullif(programs.path, ''), name, ''),
        coalesce(nullif(container_name, ''), container_id, '')
    FROM (SELECT path, min({time}) AS first, process FROM {table} GROUP BY path) firsts
    LEFT JOIN processes ON processes.id = process LEFT JOIN programs ON programs.id = program ORDER BY first"""
_BEGIN: Final = "SELECT min(time) FROM (SELECT ended AS time FROM transactions UNION ALL SELECT time FROM connections)"
_NEVER: Final = LAST_TIME
_FIRST_QUESTION: Final = _FIRST.format(table="transactions", time="ended")
_FIRST_CONNECTION: Final = _FIRST.format(table="connections", time="time")


class NewThing(NamedTuple):
    """Something with the time (seconds since the epoch) when it was seen first, and by which program, if known.

    `owner` is the owner name of the answer that was the first of a domain.
    """

    first: int
    kind: str
    name: str
    program: AskingProgram
    owner: str = ""


class NewSince(NamedTuple):
    """The things that are new since a time, the oldest first. `begins` states from when each kind is known at all."""

    found: list[NewThing]
    begins: dict[str, int]


def new_since(folder: Path, since: float, warn: Callable[[str], None]) -> NewSince:
    """Return the domains, programs, resolvers and servers that were seen first since a time (epoch seconds).

    Domains and programs are those of answers within a year, and resolvers and servers those of the segments. A server
    is an address to which a connection was opened. The times are known to the second: all of the second of `since`
    counts.

    Raises:
        SettingsError: A later version of dnstrail made a file.
        OSError, sqlite3.Error: The folder, or a file, cannot be read.
    """
    known: dict[tuple[str, str, str], NewThing] = {}
    with LivesReader(folder, warn) as reader:
        for first, owner, asker in reader.firsts():
            if not address_text(owner) and (domain := registered_domain(owner)):
                _note(known, NewThing(first, DOMAIN, domain, asker, owner))
            if asker.program:
                _note(known, NewThing(first, PROGRAM, asker.program, asker), asker.container)
    for one in _servers(folder, warn):
        _note(known, one)
    begins: dict[str, int] = {}
    for one in known.values():
        begins[one.kind] = min(begins.get(one.kind, one.first), one.first)
    return NewSince(sorted(one for one in known.values() if one.first >= int(since)), begins)


def _note(known: dict[tuple[str, str, str], NewThing], one: NewThing, container: str = "") -> None:
    key = one.kind, one.name, container
    if key not in known or one.first < known[key].first:
        known[key] = one


def _servers(folder: Path, warn: Callable[[str], None]) -> Iterator[NewThing]:
    """Yield the resolvers and servers of each segment, with a first use in it that is before those in earlier ones."""
    known: dict[tuple[str, str], int] = {}
    for path in files_of(folder, (OPEN, FINAL), warn):
        try:
            with leaving_out_damaged(path, warn):
                yield from _servers_of(path if path.exists() else path.with_suffix(FINAL), known)
        except sqlite3.OperationalError:
            if path.exists() or path.with_suffix(FINAL).exists():
                raise


def _servers_of(path: Path, known: dict[tuple[str, str], int]) -> Iterator[NewThing]:
    """Yield the resolvers and servers of a segment that are `known` for no earlier second, and note them.

    Most segments follow the others: one begins before only with what was loaded later.
    """
    with closing(open_reader(path, SCHEMA, final=path.suffix == FINAL)) as segment:
        has_extent = segment.execute("SELECT 1 FROM sqlite_master WHERE name = 'extent'").fetchone()
        [begin] = segment.execute("SELECT first FROM extent" if has_extent else _BEGIN).fetchone()
        for kind, ends, first in ((RESOLVER, _RESOLVERS, _FIRST_QUESTION), (SERVER, _SERVERS, _FIRST_CONNECTION)):
            wanted: dict[int, str] = {}
            for number, address, port in segment.execute(ends) if begin is not None else ():
                text = known_address(address)
                name = text if port in (None, _DNS_PORT) else f"{text} port {port}"
                if known.get((kind, name), _NEVER) > begin // _SECOND:
                    wanted[number] = name
            for number, time, *asker in segment.execute(first) if wanted else ():
                name, second = wanted.get(number, ""), time // _SECOND
                if name and second < known.get((kind, name), _NEVER):
                    known[kind, name] = second
                    yield NewThing(second, kind, name, AskingProgram(*asker))
