"""The command `dnstrail`: the whole pipeline, one of its workers, or a lookup; a command is imported when invoked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from dnstrail import __version__
from dnstrail.pipeline import HISTORY
from dnstrail.process.command import HELP, build_form, default_run_dir, examples, optional_run_dir_option, run_command
from dnstrail.process.config_file import ConfigFile, config_option
from dnstrail_cli.pipeline.options import PipelineRun, run_options
from dnstrail_probe.registry import capture_option


class LazyCommand(NamedTuple):
    """Where a command is defined, and its line in the list of commands."""

    module: str
    attribute: str
    summary: str


class LazyGroup(click.Group):
    """A group that lists and completes its commands from a table, without an import of their modules."""

    def __init__(self, *args: Any, table: Mapping[str, LazyCommand], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of the commands, in the order of the table."""
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """Import and return a command, or None if there is none of this name."""
        if cmd_name not in self._table:
            return None
        module, attribute, _ = self._table[cmd_name]
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        """Write the list of commands for `--help`."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in self._table.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the name of a command, or an option of the group itself."""
        names = [
            CompletionItem(name, help=command.summary)
            for name, command in self._table.items()
            if name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)


def _worker(name: str, summary: str) -> LazyCommand:
    return LazyCommand(f"dnstrail_{name}.__main__", "command", summary)


_LOOKUP, _COUNTERS, _DUMP = (f"dnstrail_cli.lookups.{name}" for name in ("lookup", "counters", "dump"))
_COMMANDS = {
    "get": LazyCommand(_LOOKUP, "get", "Look up names and addresses."),
    "trail": LazyCommand(_LOOKUP, "trail", "Show how a name or an address was reached, with evidence."),
    "connections": LazyCommand(
        "dnstrail_cli.lookups.connections",
        "connections",
        "Show the open connections with their processes and names.",
    ),
    "log": LazyCommand(
        "dnstrail_cli.log", "log", "Print DNS transactions: each question of a process or client, with its end."
    ),
    "top": LazyCommand(
        "dnstrail_cli.top.command", "top", "Show the names, processes and resolvers with the most lookups, live."
    ),
    "seen": LazyCommand("dnstrail_cli.seen.command", "seen", "Show when a name or address was seen, and by whom."),
    "new": LazyCommand("dnstrail_cli.seen.new", "new", "Show the new domains, programs, resolvers and servers."),
    "enrich": LazyCommand(
        "dnstrail_cli.enrich.command", "enrich", "Add the names of connections to JSON lines of other tools."
    ),
    "run": _worker("run", "Run a command, and report which names it reached."),
    "replay": LazyCommand("dnstrail_cli.pipeline.replay", "replay", "Play a capture file through the real pipeline."),
    "stats": LazyCommand(_COUNTERS, "stats", "Show the counters of the cache and the probes, with all losses."),
    "health": LazyCommand(
        _COUNTERS, "health", "Exit with 0 if the cache hears a probe and keeps up, and the signatures run."
    ),
    "dump": LazyCommand(_DUMP, "dump", "Print the answers that a running cache holds, one record on each line."),
    "load": LazyCommand(_DUMP, "load", "Make a file of state for a cache from a dump."),
    "keys": LazyCommand("dnstrail_cli.keys", "keys", "Make, list and allow the keys of workers on several hosts."),
    "probe": _worker("probe", "Capture DNS messages and publish them."),
    "cache": _worker("cache", "Keep the image of names and addresses, and answer lookups."),
    "signatures": _worker("signatures", "Run signatures over events, and report their findings."),
    "findings": _worker("findings", "Receive findings, and write each of them once to every output."),
    "history": LazyCommand(
        "dnstrail_cli.pipeline.load_history",
        "history",
        "Keep the DNS transactions and the connections of this host on disk.",
    ),
    "web": _worker("web", "Serve a page that shows why a connection has its name, and the same as an API."),
    "open": LazyCommand("dnstrail_cli.open_page", "open_page", "Print a link to the page, also at a name or address."),
    "fleet": LazyCommand("dnstrail_cli.fleet.command", "fleet", "Know what many hosts were answered."),
}
_HISTORY_FOLDER = "DNSTRAIL_HISTORY_FOLDER"  #: variable: folder of the history of an all-in-one run, or `none`
_EXAMPLES = examples(
    "sudo dnstrail --output json --output option:sort-events --dnscache enable --events net_packet_dns",
    "sudo dnstrail --events net_packet_dns,net_tcp_connect",
    "dnstrail --capture traffic.pcapng --events WATCHED_NAME",
    "tcpdump -w - port 53 | dnstrail --capture -",
    "dnstrail get example.com 192.0.2.1",
    "dnstrail trail 192.0.2.1 --at 'yesterday 14:00'",
    "dnstrail connections --watch",
    "sudo dnstrail run -- pip install requests",
    "dnstrail replay traffic.pcap --speed 10",
)


class _Dnstrail(LazyGroup):
    """A group whose options run the pipeline when no command is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Answer `--dnscache help` before any other argument is read."""
        asks = ("--dnscache", "help") in pairwise(args) or "--dnscache=help" in args
        if asks and not ctx.resilient_parsing:
            from dnstrail.settings import DNSCACHE_HELP

            click.echo(DNSCACHE_HELP)
            ctx.exit()
        ctx.meta[str(self.name)] = bool(self.make_parser(ctx).parse_args(args=[*args])[1])
        return super().parse_args(ctx, args)


@click.group(cls=_Dnstrail, table=_COMMANDS, invoke_without_command=True, epilog=_EXAMPLES, context_settings=HELP)
@click.version_option(f"{__version__} ({build_form()})", prog_name="dnstrail")
@config_option("dnstrail", expose=True)
@capture_option
@click.option("--stay", is_flag=True, help="Keep answering lookups after a capture file has ended.")
@click.option(
    "--history-folder",
    "history",
    envvar=_HISTORY_FOLDER,
    metavar="FOLDER|none",
    help=f"Folder that keeps what was asked (default: {HISTORY} for root and a live source, else none).",
)
@click.option("--web", metavar="[ADDRESS:]PORT", help="Serve a page there, too; see `dnstrail web --help`.")
@run_options
@optional_run_dir_option
@click.pass_context
def main_command(
    ctx: click.Context,
    config: ConfigFile,
    capture: str,
    stay: bool,
    history: str | None,
    web: str | None,
    make_run: Callable[..., PipelineRun],
    run_dir: Path | None,
) -> None:
    """Watch DNS, keep an image of names and addresses, and run signatures.

    Without a command, dnstrail runs the whole pipeline and shows its events. Exit codes: 0 found or ok, 1 not found or
    not healthy, 2 wrong usage or no capture file, 3 no cache answers, 4 cannot capture or serve.
    """
    if ctx.invoked_subcommand is None:
        from dnstrail_cli.pipeline.run import play

        run_dir = run_dir or default_run_dir()
        play(make_run(capture=capture, run_dir=run_dir, stay=stay, history=history, web=web, config=config.argument))


def main() -> None:
    """Run the command line."""
    run_command(main_command, "dnstrail")


if __name__ == "__main__":
    main()
