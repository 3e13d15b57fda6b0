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
MAX_LABELS = 8  #: keys of labels -> exit code 2
_LONGEST_KEY = 317  # characters of a label in Kubernetes: prefix, slash and name
SERVER_NAMES = "sni"
EVIDENCE_SNI = f"--evidence {SERVER_NAMES}"
_LARGEST_PORT = 65535
STDIN, STDIN_PATH = "-", "/dev/stdin"

T = TypeVar("T")


class CaptureOptions(msgspec.Struct, frozen=True):
    """The traffic to capture: DNS on these ports (of either side), and server names if they are evidence.

    `labels` are the keys of the labels of containers and pods that events carry. Invariant: there is at least one port,
    and at most MAX_PORTS; and there are at most MAX_LABELS keys.
    """

    ports: frozenset[int] = DNS_PORTS
    server_names: bool = False
    labels: tuple[str, ...] = ()


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


def check_labels(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Return keys of labels.

    Raises:
        click.BadParameter: a text cannot be a key, or there are too many.
    """
    for key in value:
        if not key or "=" in key or not key.isprintable() or len(key) > _LONGEST_KEY:
            raise click.BadParameter(f"{key[:_LONGEST_KEY]!r} is no key of a label")
    if len(value) > MAX_LABELS:
        raise click.BadParameter(f"{len(value)} keys; {MAX_LABELS} at most")
    return value


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
