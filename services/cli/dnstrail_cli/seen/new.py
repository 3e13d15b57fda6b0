"""`dnstrail new`: the domains, programs, resolvers and servers that the history has seen first since a time."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dnstrail.history.folder import folder_option
from dnstrail.process.command import examples
from dnstrail.process.terminal import escape_unprintable, json_line
from dnstrail_cli.lookups.options import json_option
from dnstrail_cli.lookups.timestamps import local_time
from dnstrail_cli.seen.command import since_option, warn

if TYPE_CHECKING:
    from dnstrail.history.first_seen import NewThing

_DAY = 86_400  # seconds
_EXAMPLES = examples(
    "dnstrail new",
    "dnstrail new --since -7d",
    "dnstrail new --json | jq -r 'select(.kind == \"domain\").name'",
)


@click.command(epilog=_EXAMPLES)
@since_option
@json_option
@folder_option
def new(since: float | None, as_json: bool, folder: Path) -> None:
    """Show the new domains, programs, resolvers and servers.

    These are those that the history has seen first in the last day, or from --since on. A server is the address of a
    connection. The history knows domains and programs of answers for a year, and resolvers and servers for as long as
    it keeps transactions and connections.
    """
    from dnstrail.history.first_seen import new_since
    from dnstrail.history.folder import become_owner, reading_history
    from dnstrail.history.relations import new_row

    begin = int(time.time() - _DAY if since is None else since)  # the history knows these times to the second
    become_owner(folder)
    with reading_history():
        found, begins = new_since(folder, begin, cache(warn))  # two readers warn of the same file
    late = [f"{kind}s since {local_time(at)}" for kind, at in sorted(begins.items()) if at >= begin]
    if late:
        warn(f"the history knows {', '.join(late)} alone: all of these are listed")
    if as_json:
        for one in found:
            click.echo(json_line(new_row(one)))
        return
    for one in found:
        click.echo(_line(one))


def _line(one: NewThing) -> str:
    asker, container, user = one.program
    words = [local_time(one.first)[:16], f"{one.kind:<8}", one.name]
    words += [f"by {asker}"] if asker and asker != one.name else []
    words += [f"in {container}"] if container else []
    words += [f"of user {user}"] if user else []
    return escape_unprintable("  ".join(words))
