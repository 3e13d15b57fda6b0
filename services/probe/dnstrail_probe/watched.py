"""What the probe looks for, and the options that say so."""

from __future__ import annotations

import click
import msgspec

DNS_PORTS = frozenset({53})
MAX_PORTS = 64
_LARGEST_PORT = 65535


class Watched(msgspec.Struct, frozen=True):
    """The ports on which DNS is spoken, on either side."""

    ports: frozenset[int] = DNS_PORTS


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


dns_ports_option = click.option(
    "--dns-ports",
    default="53",
    show_default=True,
    metavar="PORTS",
    callback=convert_ports,
    help="Ports on which DNS is spoken, over UDP and TCP, comma-separated.",
)


def options_of(watched: Watched) -> tuple[str, ...]:
    """The options that say the same to a probe of its own process."""
    return ("--dns-ports", ",".join(map(str, sorted(watched.ports))))
