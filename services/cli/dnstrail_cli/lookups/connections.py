"""`dnstrail connections`: the open connections, each with its process and the name that it means."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from dnstrail.connection import Connection
from dnstrail.errors import SettingsError
from dnstrail.process.command import NOT_FOUND, examples, run_dir_option
from dnstrail.process.terminal import json_line
from dnstrail_cli.lookups.options import at_option, cache_option, connection_option, json_option

if TYPE_CHECKING:
    from dnstrail_cli.lookups.cache_backend import CacheBackend


class OpenConnections(NamedTuple):
    """Open connections, as the cache sends them. `several` states that the cache follows several hosts.

    `known` states that those of a past time are all known.
    """

    connections: list[dict[str, Any]]
    several: bool
    known: bool


_INCOMPLETE = "dnstrail: the history of this time is incomplete: some connections may be missing"
_FIELDS = ("process", "container", "unit", "host")
_EXAMPLES = examples(
    "dnstrail connections",
    "dnstrail connections --connection process=4711 --rivals",
    "dnstrail connections --connection container=web --watch",
    "dnstrail connections --connection unit=ssh.service",
    "dnstrail connections --at 'yesterday 14:00'",
    "dnstrail connections --json | jq 'select(.name == \"\")'",
)


@click.command(epilog=_EXAMPLES)
@connection_option(f"Only the connections of this: {', '.join(_FIELDS)}.", _FIELDS)
@at_option
@click.option("--rivals", is_flag=True, help="Show the other names of each address, the likeliest first.")
@click.option("--watch", is_flag=True, help="Show the connections again every second.")
@json_option
@cache_option
@run_dir_option
@click.pass_context
def connections(
    ctx: click.Context,
    connection: Connection,
    at: float | None,
    rivals: bool,
    watch: bool,
    as_json: bool,
    cache: str | None,
    run_dir: Path,
) -> None:
    """Show the open connections with their processes and names, or those that were open at a time.

    The cache knows the connections that were made since it runs, and the history those before. Exit codes: 0 ok, 1
    nothing is open of the process, container, unit or host that was named, 2 wrong usage, 3 no cache answers.
    """
    if watch and at is not None:
        raise SettingsError("--watch shows the present: it goes without --at")
    from dnstrail_cli.lookups.cache_backend import CacheBackend

    with closing(CacheBackend(cache, run_dir)) as backend:
        look = partial(open_connections, backend, **connection.fields, at=at, rivals=rivals)
        if watch:
            _watch(look, rivals=rivals, as_json=as_json)
        found = look()
    _show(found, rivals=rivals, as_json=as_json)
    if not found.known:
        click.echo(_INCOMPLETE, err=True)
    if not found.connections and connection.fields:
        ctx.exit(NOT_FOUND)


def open_connections(backend: CacheBackend, **asked: object) -> OpenConnections:
    """Return all pages of the open connections; each connection states who answered in place of the cache."""
    pages = [*backend.pages("connections", **asked)]
    sources = [{"source": page["source"]} if "source" in page else {} for page in pages]
    found = [one | source for page, source in zip(pages, sources, strict=True) for one in page["connections"]]
    several = any(page.get("hosts", 1) > 1 for page in pages)
    return OpenConnections(found, several, all(page.get("history", True) for page in pages))


def _watch(look: partial[OpenConnections], *, rivals: bool, as_json: bool) -> None:
    """Show the connections every second until the command is interrupted."""
    from dnstrail_cli.lookups.tables import (
        connection_table,
        every_second,
        show_live,
    )

    looks: Iterator[OpenConnections] = every_second(look)
    if not as_json:
        show_live(
            lambda most: (connection_table(one.connections, most, rivals=rivals, hosts=one.several) for one in looks)
        )
    for found in looks:
        _show(found, rivals=rivals, as_json=as_json)


def _show(found: OpenConnections, *, rivals: bool, as_json: bool) -> None:
    if as_json:
        for connection in found.connections:
            click.echo(json_line(connection))
        return
    from dnstrail_cli.lookups.tables import connection_table, show

    show(connection_table(found.connections, len(found.connections), rivals=rivals, hosts=found.several))
