"""`dnstrail replay`: a capture file through the whole pipeline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from dnstrail.process.command import check_number, examples
from dnstrail.process.config_file import ConfigFile, config_option
from dnstrail_cli.pipeline.options import PipelineRun, run_options
from dnstrail_probe.registry import complete_capture, convert_capture_file

_EXAMPLES = examples(
    "dnstrail replay traffic.pcap",
    "dnstrail replay traffic.pcapng --speed 10 --events net_packet_dns,WATCHED_NAME",
    "dnstrail replay resolver.fstrm --output json --output option:sort-events",
    "zcat traffic.pcap.gz | dnstrail replay -",
)


@click.command(epilog=_EXAMPLES)
@config_option("replay", expose=True)
@click.argument("file", callback=convert_capture_file, shell_complete=complete_capture)
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    callback=check_number,
    help="Play X times as fast as it was captured (default: without pauses).",
)
@run_options
@click.option(
    "--run-dir",
    type=click.Path(path_type=Path, readable=False),
    help="Folder of the sockets (default: a private one, removed at the end).",
)
def replay(
    config: ConfigFile, file: str, speed: float | None, make_run: Callable[..., PipelineRun], run_dir: Path | None
) -> None:
    """Play a capture file through the real pipeline.

    FILE is a pcap, pcapng or dnstap file, or - for stdin.
    """
    from dnstrail_cli.pipeline.run import play

    play(make_run(capture=file, run_dir=run_dir, speed=speed, config=config.argument))
