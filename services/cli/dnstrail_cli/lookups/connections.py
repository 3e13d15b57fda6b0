"""`dnstrail connections`: the open connections, each with its process and the name that it means."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from dnstrail.connection import Connection
from dnstrail.process.command import NOT_FOUND, examples, run_dir_option
from dnstrail.process.terminal import json_line
from dnstrail_cli.lookups.options import cache_option, connection_option, json_option

if TYPE_CHECKING:
    from dnstrail_cli.lookups.cache_backend import CacheBackend


class OpenConnections(NamedTuple):
    """Open connections, as the cache sends them. `several` states that the cache follows several hosts."""

    connections: list[dict[str, Any]]
    several: bool


_FIELDS = ("process", "container", "host")
_EXAMPLES = examples(
    "dnstrail connections",
    "dnstrail connections --connection process=4711 --rivals",
    "dnstrail connections --connection container=web --watch",
    "dnstrail connections --json | jq 'select(.name == \"\")'",
)


@click.command(epilog=_EXAMPLES)
@connection_option(f"Only the connections of this: {', '.join(_FIELDS)}.", _FIELDS)
@click.option("--rivals", is_flag=True, help="Show the other names of each address, the likeliest first.")
@click.option("--watch", is_flag=True, help="Show the connections again every second.")
@json_option
@cache_option
@run_dir_option
@click.pass_context
def connections(
    ctx: click.Context,
    connection: Connection,
    rivals: bool,
    watch: bool,
    as_json: bool,
    cache: str | None,
    run_dir: Path,
) -> None:
    """Show the open connections with their processes and names.

    The cache knows the connections that were made since it runs. Exit codes: 0 ok, 1 nothing is open of the process,
    container or host that was named, 3 no cache answers.
    """
    from dnstrail_cli.lookups.cache_backend import CacheBackend

    with closing(CacheBackend(cache, run_dir)) as backend:
        look = partial(open_connections, backend, **connection.fields, rivals=rivals)
        if watch:
            _watch(look, rivals=rivals, as_json=as_json)
        found = look()
    _show(found, rivals=rivals, as_json=as_json)
    if not found.connections and connection.fields:
        ctx.exit(NOT_FOUND)


def open_connections(backend: CacheBackend, **asked: object) -> OpenConnections:
    """Return all pages of the open connections."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = backend.request("connections", cursor=cursor, **asked)
        found += page["connections"]
        cursor = page["next"]
        if not cursor:
            return OpenConnections(found, page.get("hosts", 1) > 1)


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
