"""The options that select what the probe captures, shared by all commands that capture."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click
import msgspec

DNS_PORTS = frozenset({53})
MAX_PORTS = 64  #: DNS ports -> exit code 2
SERVER_NAMES = "sni"
EVIDENCE_SNI = f"--evidence {SERVER_NAMES}"
_LARGEST_PORT = 65535
STDIN, STDIN_PATH = "-", "/dev/stdin"

T = TypeVar("T")


class CaptureOptions(msgspec.Struct, frozen=True):
    """The traffic to capture: DNS on these ports (of either side), and server names if they are evidence.

    Invariant: there is at least one port, and at most MAX_PORTS.
    """

    ports: frozenset[int] = DNS_PORTS
    server_names: bool = False


def convert_ports(_ctx: click.Context, _param: click.Parameter, value: str) -> frozenset[int]:
    """Return the ports of a comma-separated list.

    Raises:
        click.BadParameter: a word is no port, or there are too many.
    """
    words = [word.strip() for word in value.split(",")]
    for word in words:
        if not (word.isascii() and word.isdigit() and len(word) <= len("65535") and 0 < int(word) <= _LARGEST_PORT):
            raise click.BadParameter(f"{word!r} is no port from 1 to {_LARGEST_PORT}")
    ports = frozenset(map(int, words))
    if len(ports) > MAX_PORTS:
        raise click.BadParameter(f"{len(ports)} ports; {MAX_PORTS} at most")
    return ports


def capture_options(command: Callable[..., T]) -> Callable[..., T]:
    """Add the options to a command, which receives their values as its parameter `options`."""

    @click.option(
        "--dns-ports",
        default="53",
        show_default=True,
        metavar="PORTS",
        callback=convert_ports,
        help="Ports that carry DNS over UDP and TCP, comma-separated.",
    )
    @click.option(
        "--evidence",
        type=click.Choice([SERVER_NAMES]),
        help="sni: also capture server names (TLS SNI, HTTP Host). Needs ebpf or a file.",
    )
    @wraps(command)
    def with_options(*args: Any, dns_ports: frozenset[int], evidence: str | None, **others: Any) -> T:
        return command(*args, options=CaptureOptions(dns_ports, evidence == SERVER_NAMES), **others)

    return with_options


def options_of(options: CaptureOptions) -> tuple[str, ...]:
    """Return the command line arguments that give these options to a probe process."""
    ports = ("--dns-ports", ",".join(map(str, sorted(options.ports))))
    return (*ports, "--evidence", SERVER_NAMES) if options.server_names else ports


def convert_capture(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Return what `--capture` names; "-" is the capture on stdin.

    Raises:
        click.BadParameter: it names nothing, or stdin is a terminal.
    """
    if value == "":
        raise click.BadParameter("'' is neither a source nor a file")
    if value != STDIN:
        return value
    if sys.stdin is None or sys.stdin.isatty():
        raise click.BadParameter("stdin is a terminal: pipe a capture into it (tcpdump -w - | dnstrail ... -)")
    return STDIN_PATH
