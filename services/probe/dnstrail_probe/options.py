"""What the probe looks for, and the options that say so."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click
import msgspec

DNS_PORTS = frozenset({53})
MAX_PORTS = 64
SERVER_NAMES = "sni"
_LARGEST_PORT = 65535
STDIN, STDIN_PATH = "-", "/dev/stdin"

T = TypeVar("T")


class CaptureOptions(msgspec.Struct, frozen=True):
    """The ports on which DNS is spoken, on either side; and whether server names are evidence, too."""

    ports: frozenset[int] = DNS_PORTS
    server_names: bool = False


def convert_ports(_ctx: click.Context, _param: click.Parameter, value: str) -> frozenset[int]:
    """A list of ports, separated by commas."""
    words = [word.strip() for word in value.split(",")]
    for word in words:
        if not (word.isascii() and word.isdigit() and len(word) <= len("65535") and 0 < int(word) <= _LARGEST_PORT):
            raise click.BadParameter(f"{word!r} is no port from 1 to {_LARGEST_PORT}")
    ports = frozenset(map(int, words))
    if len(ports) > MAX_PORTS:
        raise click.BadParameter(f"{len(ports)} ports; {MAX_PORTS} at most")
    return ports


def capture_options(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command the options, and their values as its parameter `watched`."""

    @click.option(
        "--dns-ports",
        default="53",
        show_default=True,
        metavar="PORTS",
        callback=convert_ports,
        help="Ports on which DNS is spoken, over UDP and TCP, comma-separated.",
    )
    @click.option(
        "--evidence",
        type=click.Choice([SERVER_NAMES]),
        help="sni: also look for the names that clients call servers by (TLS server names, HTTP hosts).",
    )
    @wraps(command)
    def with_options(*args: Any, dns_ports: frozenset[int], evidence: str | None, **others: Any) -> T:
        return command(*args, options=CaptureOptions(dns_ports, evidence == SERVER_NAMES), **others)

    return with_options


def options_of(options: CaptureOptions) -> tuple[str, ...]:
    """The options that say the same to a probe of its own process."""
    ports = ("--dns-ports", ",".join(map(str, sorted(options.ports))))
    return (*ports, "--evidence", SERVER_NAMES) if options.server_names else ports


def convert_capture(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Return what `--capture` names; "-" is the capture on stdin."""
    if value != STDIN:
        return value
    if sys.stdin is None or sys.stdin.isatty():
        raise click.BadParameter("stdin is a terminal: pipe a capture into it (tcpdump -w - | dnstrail ... -)")
    return STDIN_PATH
