"""`dnstrail trail`: a lookup with its reasons, drawn as trees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from dnstrail.bus.ipc import lookups_address
from dnstrail.connection import Connection
from dnstrail.dns.names import address_text
from dnstrail.errors import DataNotFound, SettingsError
from dnstrail.process.command import run_dir_option
from dnstrail.process.terminal import escape_unprintable, json_line
from dnstrail.settings import parse_dnscache
from dnstrail_cli.capture_lookup import Replayed
from dnstrail_cli.lookup import NOT_FOUND, request, warn
from dnstrail_cli.options import at_option, cache_option, capture_option, dnscache_option, json_option
from dnstrail_cli.tables import show
from dnstrail_cli.trail_tree import trail_trees
from dnstrail_probe.options import CaptureOptions, capture_options


@click.command()
@click.argument("key")
@at_option
@json_option
@click.option("--client", help="Whose connection it is: the address of the client.")
@click.option("--port", type=click.IntRange(0, 65535), help="... the port at the server.")
@click.option("--process", type=click.IntRange(0, 0xFFFFFFFF), help="... the id of the process.")
@click.option("--container", help="... the id of the container.")
@capture_option
@dnscache_option
@capture_options
@cache_option
@run_dir_option
@click.pass_context
def trail(
    ctx: click.Context,
    key: str,
    at: float | None,
    as_json: bool,
    client: str | None,
    port: int | None,
    process: int | None,
    container: str | None,
    capture: str | None,
    dnscache: tuple[str, ...],
    options: CaptureOptions,
    cache: str | None,
    run_dir: Path,
) -> None:
    """Show the ways from questions to a name or an address, the likeliest first, each with its evidence."""
    connection = Connection(process, container, _address(client), port)
    if capture is not None:
        found = _ask_file(Replayed(capture, parse_dnscache(dnscache), options), key, connection, at)
    elif dnscache:
        raise SettingsError("--dnscache goes with --capture FILE")
    else:
        found = _ask_cache(cache or lookups_address(run_dir), key, connection, at)
    if found is None:
        click.echo(f"{escape_unprintable(key)}: not found", err=True)
        ctx.exit(NOT_FOUND)
    if as_json:
        click.echo(json_line(found))
    else:
        show(*trail_trees(found))


def _address(client: str | None) -> str | None:
    address = None if client is None else address_text(client)
    if client is not None and address is None:
        raise SettingsError(f"--client: {client!r} is no address")
    return address


def _ask_cache(address: str, key: str, connection: Connection, at: float | None) -> dict[str, Any] | None:
    asked = key.encode(errors="replace").decode()
    try:
        found: dict[str, Any] = request(address, "trail", key=asked, at=at, **msgspec.structs.asdict(connection))
    except DataNotFound:
        return None
    return found


def _ask_file(replayed: Replayed, key: str, connection: Connection, at: float | None) -> dict[str, Any] | None:
    found = replayed.trails(key, connection, at)
    replayed.advance(None)
    warn(replayed)
    if found is None:
        return None
    data: dict[str, Any] = msgspec.to_builtins(found)
    data["history"] = data.pop("exact")
    return data
