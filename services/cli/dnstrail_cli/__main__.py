"""The command `dnstrail`: the whole pipeline, one worker of it, or a question to its cache."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import click

from dnstrail import __version__
from dnstrail.process.command import run_command, run_dir_option
from dnstrail.settings import DNSCACHE_HELP
from dnstrail_cache.__main__ import command as cache
from dnstrail_cli.lookup import get, health, stats
from dnstrail_cli.output import parse_output
from dnstrail_cli.run import Selection, play, replay, select
from dnstrail_cli.trail import trail
from dnstrail_probe.__main__ import command as probe
from dnstrail_probe.options import CaptureOptions, capture_options
from dnstrail_probe.registry import capture_option
from dnstrail_signatures.__main__ import command as signatures

_EXAMPLES = """\
\b
Examples:
  sudo dnstrail --output json --output option:sort-events --dnscache enable --events net_packet_dns
  dnstrail --capture traffic.pcapng --events WATCHED_NAME
  dnstrail get example.com 192.0.2.1
  dnstrail get --capture traffic.pcap --at 2026-11-01T12:00:00Z example.com
  dnstrail replay traffic.pcap --speed 10
"""


class _Dnstrail(click.Group):
    """A group whose options run the pipeline when no command is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Answer `--dnscache help` before anything else is looked at."""
        if ("--dnscache", "help") in pairwise(args) or "--dnscache=help" in args:
            click.echo(DNSCACHE_HELP)
            ctx.exit()
        return super().parse_args(ctx, args)


@click.group(cls=_Dnstrail, invoke_without_command=True, epilog=_EXAMPLES)
@click.version_option(__version__, prog_name="dnstrail")
@capture_option
@click.option("--dnscache", multiple=True, metavar="OPTIONS", help="Options of the cache; `help` lists them.")
@click.option("--events", multiple=True, metavar="NAMES", help="Events and signatures to show, comma-separated.")
@click.option("--output", multiple=True, metavar="FORMAT", help="json, table, option:sort-events, ...")
@click.option("--signatures", multiple=True, type=click.Path(path_type=Path), help="A signature file, or a folder.")
@click.option("--stay", is_flag=True, help="Keep answering lookups when a capture file has ended.")
@capture_options
@run_dir_option
@click.pass_context
def main_command(
    ctx: click.Context,
    capture: str,
    dnscache: tuple[str, ...],
    events: tuple[str, ...],
    output: tuple[str, ...],
    signatures: tuple[Path, ...],
    stay: bool,
    options: CaptureOptions,
    run_dir: Path,
) -> None:
    """Watch DNS, keep an image of names and addresses, run signatures; alone, or as one worker of it."""
    if ctx.invoked_subcommand is None:
        selection: Selection = select(events, signatures)
        play(run_dir, capture, dnscache, selection, parse_output(output), stay=stay, options=options)


for _worker, _command in {"probe": probe, "cache": cache, "signatures": signatures}.items():
    main_command.add_command(_command, _worker)
for _command in (get, trail, replay, stats, health):
    main_command.add_command(_command)


def main() -> None:
    """The entry point."""
    run_command(main_command, "dnstrail")


if __name__ == "__main__":
    main()
