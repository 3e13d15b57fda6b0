"""The table of all sources: a new source is one module and one line in SOURCES.

A source module contains `open_source(opening)`, which returns its source, and may contain `CHECKS`, the rows that it
adds to `dnstrail probe --check`. The table names the modules without importing them, so that the command line can
print its help without loading any source.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import click
import msgspec
from click.shell_completion import CompletionItem

from dnstrail.capture_options import EVIDENCE_SNI, STDIN, CaptureOptions, convert_capture
from dnstrail.errors import SettingsError, SourceUnavailable
from dnstrail.process.clock import StreamClock
from dnstrail_probe.source import Opening, Source

AUTO = "auto"


class SourceEntry(msgspec.Struct, frozen=True):
    """One line of the table: a word of `--capture`, and the module that opens this source.

    `argument` is the one word that may follow "name:"; in capitals it is a placeholder for any text (PATH). An
    `automatic` source is a candidate of `--capture auto`. `server_names` states that the source can capture server
    names (--evidence sni). Invariant: the last automatic source can always be opened.
    """

    name: str
    module: str
    argument: str = ""
    automatic: bool = False
    live: bool = True
    server_names: bool = True

    @property
    def words(self) -> tuple[str, ...]:
        """The words of `--capture` that a shell can complete: a placeholder such as PATH is none."""
        fixed = self.argument and not self.argument.isupper()
        return (self.name, f"{self.name}:{self.argument}") if fixed else (self.name,)

    def accepts(self, argument: str) -> bool:
        """Return whether the source can be opened with this argument; "" is always accepted."""
        return not argument or argument == self.argument or self.argument.isupper()

    def open(self, opening: Opening) -> Source:
        """Open the source.

        Raises:
            CaptureError: the capture file cannot be read.
            SettingsError: the source does not support an option.
            SourceUnavailable: this host or user cannot have the source.
        """
        if opening.options.server_names and not self.server_names:
            raise SettingsError(f"{EVIDENCE_SNI}: --capture {self.name} captures no server names; use ebpf or a file")
        source: Source = import_module(self.module).open_source(opening)
        return source


# In the order in which `--capture auto` tries them, and in which `--check` shows them.
SOURCES = (
    SourceEntry("ebpf", "dnstrail_probe.ebpf.entry", argument="getaddrinfo", automatic=True),
    SourceEntry("packet", "dnstrail_probe.sources.af_packet", automatic=True, server_names=False),
    SourceEntry("dnstap", "dnstrail_probe.sources.dnstap_socket", argument="PATH", server_names=False),
    SourceEntry("demo", "dnstrail_probe.sources.demo", automatic=True, live=False),
)
_FILE = SourceEntry("FILE", "dnstrail_probe.sources.capture_file", live=False)
_DEFAULT = CaptureOptions()


def open_source(capture: str, options: CaptureOptions = _DEFAULT, clock: StreamClock | None = None) -> Source:
    """Open the source that `--capture` names. Any word that is not in the table is the path of a file.

    Raises:
        CaptureError: the capture file cannot be read.
        SettingsError: the source does not support an option.
        SourceUnavailable: this host or user cannot have the source.
    """
    entry, argument = _find(capture)
    return entry.open(Opening(options, clock or StreamClock(), argument))


def is_file(capture: str) -> bool:
    """Return whether `--capture` names a file of the user, and no listed source."""
    return capture != AUTO and _find(capture)[0] is _FILE


def is_live(capture: str) -> bool:
    """Return whether `--capture` names a live source; `auto` does, as long as one can be opened."""
    return capture == AUTO or _find(capture)[0].live


def best_source(
    report: Callable[[str], None], options: CaptureOptions = _DEFAULT, clock: StreamClock | None = None
) -> Source:
    """Open the first automatic source that can be opened.

    `report` receives the choice, and the reason against each earlier source.

    Raises:
        SourceUnavailable: no automatic source can be opened.
    """
    refused = SourceUnavailable(AUTO, "no source can be opened")
    for entry in (entry for entry in SOURCES if entry.automatic):
        try:
            source = entry.open(Opening(_supported(entry, options, report), clock or StreamClock()))
        except SourceUnavailable as error:
            report(f"no capture by {error}")
            refused = error
        else:
            report(f"capturing by {entry.name}" if entry.live else f"no live source: playing the bundled {entry.name}")
            return source
    raise refused


def capture_option(command: Callable[..., object]) -> Callable[..., object]:
    """Add the option `--capture` to a command."""
    option = click.option(
        "--capture",
        default=AUTO,
        show_default=True,
        metavar="SOURCE",
        callback=convert_capture,
        shell_complete=complete_capture,
        help=_help(),
    )
    return option(command)


def convert_capture_file(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Return a capture that ends: a file, the demo, or stdin.

    Raises:
        click.BadParameter: the word names a live source, or stdin is a terminal.
    """
    capture = convert_capture(ctx, param, value)
    if capture is not None and is_live(capture):
        raise click.BadParameter(f"{capture!r} is a live source: name a capture file (./NAME if a file has this name)")
    return capture


def complete_capture(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a word of `--capture`, or the path of a capture file, for a shell."""
    words = (AUTO, *(word for entry in SOURCES for word in entry.words), STDIN)
    return [
        CompletionItem(incomplete, type="file"),
        *(CompletionItem(word) for word in words if word.startswith(incomplete)),
    ]


def _find(capture: str) -> tuple[SourceEntry, str]:
    name, _, argument = capture.partition(":")
    for entry in SOURCES:
        if entry.name == name and entry.accepts(argument):
            return entry, argument
    return _FILE, capture


def _supported(entry: SourceEntry, options: CaptureOptions, report: Callable[[str], None]) -> CaptureOptions:
    """Return the options without the ones that a source does not support."""
    if not options.server_names or entry.server_names:
        return options
    report(f"{entry.name} captures no server names: without {EVIDENCE_SNI}")
    return msgspec.structs.replace(options, server_names=False)


def _help() -> str:
    words = [f"{entry.name}[:{entry.argument}]" if entry.argument else entry.name for entry in SOURCES]
    return f"{', '.join((AUTO, *words))}, a FILE, or - for a capture on stdin."
