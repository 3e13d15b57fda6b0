"""The options of a run of the whole pipeline, and the value that they make together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from click.shell_completion import CompletionItem

from dnstrail.capture_options import CaptureOptions, capture_options
from dnstrail.pipeline import MEMORY
from dnstrail.process.command import check_dnscache, retired_option
from dnstrail.protocol import MOST_PROBES

LEAST_MEMORY, MOST_MEMORY = 256, 1 << 24  # MiB for each worker
T = TypeVar("T")
_OPTIONS = ("dnscache", "events", "output", "signatures", "to", "memory", "probes", "options")  # of `run_options`


class PipelineRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run of the whole pipeline as the command line states it, unchecked.

    Without `run_dir` the run makes a private folder for its sockets, and removes it at the end.
    """

    capture: str
    run_dir: Path | None
    dnscache: tuple[str, ...]
    events: tuple[str, ...]
    output: tuple[str, ...]
    signatures: tuple[Path, ...]
    options: CaptureOptions
    memory: int
    config: str
    to: tuple[str, ...]
    stay: bool = False
    speed: float | None = None
    probes: int | None = None
    history: str | None = None
    web: str | None = None


def run_options(command: Callable[..., T]) -> Callable[..., T]:
    """Add the options of a run to a command, which receives them as `make_run`: a `PipelineRun` without its source."""

    @click.option(
        "--dnscache",
        multiple=True,
        metavar="OPTIONS",
        callback=check_dnscache,
        help="Options of the cache; `help` lists them.",
    )
    @click.option(
        "--events",
        multiple=True,
        metavar="NAMES",
        shell_complete=_complete_event_names,
        help="Events and signatures to show, comma-separated (default: DNS packets, answer conflicts, findings).",
    )
    @click.option(
        "--output",
        multiple=True,
        metavar="FORMAT",
        help="json, table (a message once), table=all (on every socket), option:sort-events, "
        "option:parse-arguments. Default: table on a terminal, else json.",
    )
    @click.option(
        "--signatures", multiple=True, type=click.Path(path_type=Path), help="A signature file, or a folder of them."
    )
    @click.option(
        "--to",
        multiple=True,
        metavar="OUTPUT",
        help="Write findings to an output, too; see `dnstrail findings --help`.",
    )
    @click.option(
        "--memory",
        metavar="MIB",
        type=click.IntRange(LEAST_MEMORY, MOST_MEMORY),
        default=MEMORY,
        show_default=True,
        help="Memory limit of each worker; a worker that exceeds it ends the run.",
    )
    @retired_option(
        "--probes", "`probes` in the tables of the settings file", type=click.IntRange(1, MOST_PROBES), metavar="NUMBER"
    )
    @capture_options
    @wraps(command)
    def with_options(*args: Any, **given: Any) -> T:
        make_run = partial(PipelineRun, **{name: given.pop(name) for name in _OPTIONS})
        return command(*args, make_run=make_run, **given)

    return with_options


def _complete_event_names(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the last name of a comma-separated list of events and signatures."""
    from dnstrail.events import NAMES
    from dnstrail.process.clock import SystemClock
    from dnstrail.process.privileges import calling_user
    from dnstrail_cli.pipeline.selection import signature_names

    before, comma, last = incomplete.rpartition(",")
    known = (*NAMES, *signature_names((), calling_user(), SystemClock()).names)
    return [CompletionItem(f"{before}{comma}{name}") for name in known if name.startswith(last)]
