"""`dnstrail seen`: when a name or an address was seen in the history, for how long, and by which programs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dnstrail.history.folder import folder_option
from dnstrail.process.command import NOT_FOUND, examples
from dnstrail.process.terminal import escape_unprintable, json_line
from dnstrail_cli.lookups.lookup import check_keys
from dnstrail_cli.lookups.options import json_option
from dnstrail_cli.lookups.timestamps import convert_moment

_EXAMPLES = examples(
    "dnstrail seen 203.0.113.7",
    "dnstrail seen shop.example --since -30d",
    "dnstrail seen shop.example --json | jq '.programs[].program'",
    "dnstrail seen 203.0.113.7 --cof > passive-dns.ndjson",
)

since_option = click.option(
    "--since", metavar="TIME", callback=convert_moment, help="Only from a time on, in the forms of `get --at`."
)


@click.command(epilog=_EXAMPLES)
@click.argument("key", callback=check_keys)
@since_option
@click.option("--cof", is_flag=True, help="Print the passive DNS common output format, one object on each line.")
@json_option
@folder_option
@click.pass_context
def seen(ctx: click.Context, key: str, since: float | None, cof: bool, as_json: bool, folder: Path) -> None:
    """Show when a name or address was seen, and by whom.

    Each relation up and down from the key has its first and last answer, and the programs that received it. The history
    keeps them for a year. Exit codes: 0 found, 1 not
    found, 2 wrong usage or no history.
    """
    from dnstrail.dns.names import lookup_key
    from dnstrail.history.folder import become_owner, reading_history
    from dnstrail.history.lives_reader import LivesReader
    from dnstrail.history.relations import by_relation, cof_row, json_row
    from dnstrail_cli.lookups.tables import show
    from dnstrail_cli.progress import load_bar
    from dnstrail_cli.seen.relations import lines

    if cof and as_json:
        raise click.UsageError("--cof goes without --json")
    load_bar()  # the owner may not be able to read the modules
    become_owner(folder)
    with reading_history(), LivesReader(folder, warn) as reader:
        found, is_whole = reader.of(lookup_key(key) or key, since or 0)
    relations = by_relation(found)
    if cof or as_json:
        for one in relations:
            click.echo(json_line((cof_row if cof else json_row)(one)))
    elif relations:
        show(*lines(relations, bars=sys.stdout.isatty()))
    if not is_whole:
        warn("too many relations: some are left out")
    if not relations:
        click.echo(f"{escape_unprintable(key)}: not found", err=True)
        ctx.exit(NOT_FOUND)


def warn(text: str) -> None:
    """Print a warning."""
    click.echo(f"dnstrail: {escape_unprintable(text)}", err=True)
