"""`dnstrail dump` and `dnstrail load`: the records of a running cache as JSON lines, and a file of state from them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from dnstrail.errors import SettingsError
from dnstrail.process.command import check_file_path, examples, run_dir_option
from dnstrail.process.terminal import escape_unprintable, json_line
from dnstrail_cli.lookups.options import cache_option

if TYPE_CHECKING:
    from dnstrail.image.saved import SavedRecord
    from dnstrail_cli.lookups.cache_backend import CacheBackend

_SECOND = 1_000_000_000  # ns
MOST_LINE = 16 << 20  #: bytes of a line of a dump that `dnstrail load` reads -> exit code 2
_DUMP_EXAMPLES = examples("dnstrail dump > image.ndjson", "dnstrail dump --cof | jq 'select(.rrtype == \"A\")'")
_LOAD_EXAMPLES = examples("dnstrail load --state /var/lib/dnstrail/image image.ndjson")


@click.command(epilog=_DUMP_EXAMPLES)
@click.option("--cof", is_flag=True, help="Print one relation on each line, in the Passive DNS Common Output Format.")
@cache_option
@run_dir_option
def dump(cof: bool, cache: str | None, run_dir: Path) -> None:
    """Print the answers that a running cache holds, one record on each line.

    A dump needs many requests. Records that change meanwhile are printed as they are then.
    """
    import msgspec

    from dnstrail_cli.lookups.cache_backend import CacheBackend

    with closing(CacheBackend(cache, run_dir)) as backend:
        for record in _records(backend):
            for line in _cof_lines(record) if cof else [record]:
                click.echo(json_line(msgspec.to_builtins(line)))  # bytes as base64


@click.command(epilog=_LOAD_EXAMPLES)
@click.option(
    "--state",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    callback=check_file_path,
    help="File to write, for a stopped cache.",
)
@click.argument("file", type=click.File("rb", lazy=False), default="-")
def load(state: Path, file: BinaryIO) -> None:
    """Make a file of state for a cache from a dump.

    The cache reads the file when it starts with the same --state. No request changes a running cache, since each member
    of the group may send requests.
    """
    from dnstrail_cache.state.snapshots import save
    from dnstrail_cache.state.state_file import StateHeader, blocks_of

    records = [*read_dump(file)]
    fault = save(state, blocks_of(StateHeader(), records))
    if fault:
        raise SettingsError(f"--state {state}: {fault}")
    owner = state.absolute().parent.stat()
    if os.geteuid() == 0:
        os.chown(state, owner.st_uid, owner.st_gid, follow_symlinks=False)
    click.echo(f"{len(records)} records", err=True)


def _records(backend: CacheBackend) -> Iterator[dict[str, Any]]:
    cursor = ""
    while True:
        page = backend.request("dump", cursor=cursor)
        yield from page["records"]
        cursor = page["next"]
        if not cursor:
            return


def _cof_lines(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a line of the Passive DNS Common Output Format for each relation of a record of a dump.

    The times are those of the answers that are held. The format is draft-dulaunoy-dnsop-passive-dns-cof.
    """
    from dnstrail.image import Kind

    answers, total = record["answers"], record["total"]
    first = min([one["stamp"] for one in answers] + ([total["first"]] if total else []))
    last = max([one["stamp"] for one in answers] + ([total["stamp"]] if total else []))
    count = len(answers) + (total["count"] if total else 0)
    for owner, kind, target in record["edges"]:
        yield {
            "rrname": rrname(owner),
            "rrtype": Kind(kind).name,
            "rdata": target,
            "time_first": first // _SECOND,
            "time_last": last // _SECOND,
            "count": count,
        }


def rrname(owner: str) -> str:
    """Return an owner; an address is the owner of a reverse record under its reverse name.

    A name may look like an address in brackets.
    """
    import dns.reversename

    from dnstrail.dns.names import address_text

    if address_text(owner) != owner:
        return owner
    return dns.reversename.from_address(owner).to_text(omit_final_dot=True)


def read_dump(file: BinaryIO) -> Iterator[SavedRecord]:
    """Yield the records of a dump.

    Raises:
        SettingsError: A line is no record.
    """
    import msgspec

    from dnstrail.image.saved import SavedRecord

    decoder = msgspec.json.Decoder(SavedRecord)
    number = 0
    while line := file.readline(MOST_LINE):
        number += 1
        try:
            yield decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise SettingsError(f"line {number}: {escape_unprintable(str(error))}") from error
