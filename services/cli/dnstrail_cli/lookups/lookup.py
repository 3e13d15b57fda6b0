"""`dnstrail get` and `dnstrail trail`: lookups, answered by a cache or by a capture file."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import click

from dnstrail.capture_options import STDIN
from dnstrail.connection import Connection
from dnstrail.errors import DataNotFound, SettingsError
from dnstrail.process.command import NOT_FOUND, examples
from dnstrail.process.terminal import json_line
from dnstrail_cli.lookups.found_text import found_text
from dnstrail_cli.lookups.options import FIELDS, at_option, backend_options, connection_option, json_option

if TYPE_CHECKING:
    from dnstrail_cli.lookups.options import Backend

Keys = TypeVar("Keys", str, tuple[str, ...])
_PORT = re.compile(r"(\[[^\[\]]+\]|[^:\[\]]+):\d{1,5}", re.ASCII)
_LONGEST = 300  # characters of a key in an error
_connection_option = connection_option(f"The connection to explain, as far as it is known: {', '.join(FIELDS)}.")
_GET_EXAMPLES = examples(
    "dnstrail get example.com 192.0.2.1",
    "dnstrail get --at 'yesterday 14:00' 192.0.2.1",
    "dnstrail get --json --at -2h30m 192.0.2.1 | jq .dns_root",
    "dnstrail get --capture traffic.pcap --at 2026-11-01T12:00:00Z example.com",
    "tcpdump -w - port 53 | dnstrail get --capture - example.com",
    "dnstrail get 192.0.2.1 --connection process=4711,port=443",
    "dnstrail get --capture traffic.pcap - < keys.jsonl",
)
_TRAIL_EXAMPLES = examples(
    "dnstrail trail 192.0.2.1",
    "dnstrail trail 192.0.2.1 --connection process=4711,port=443",
    "dnstrail trail --capture traffic.pcap --connection client=10.0.0.2 192.0.2.1",
    "dnstrail trail --json --at 14:00 192.0.2.1 | jq '.trails[0].dns_root'",
)


def check_keys(_ctx: click.Context, _param: click.Parameter, value: Keys) -> Keys:
    """Return the key of an argument, or its keys.

    Raises:
        SettingsError: one of them is no key; the text names the reason, and the key to write instead if there is one.
    """
    for key in (value,) if isinstance(value, str) else value:
        if key != STDIN and (reason := _fault(key.strip())):
            raise SettingsError(f"key {key!r:.{_LONGEST}} {reason}")
    return value


@click.command(epilog=_GET_EXAMPLES)
@click.argument("keys", nargs=-1, required=True, metavar="KEY...", callback=check_keys)
@at_option
@json_option
@_connection_option
@backend_options
@click.pass_context
def get(
    ctx: click.Context,
    keys: tuple[str, ...],
    at: float | None,
    as_json: bool,
    connection: Connection,
    backend: Backend,
) -> None:
    """Look up names and addresses.

    The name of the connection to an address comes first, also if its answers are gone. With --capture FILE and the one
    key "-", reads lines {"key": ..., "at": epoch}, sorted by "at", from stdin and writes one JSON line for each. Exit
    codes: 0 found, 1 a key was not found, 2 wrong usage or no capture file, 3 no cache answers.
    """
    if STDIN in keys:
        _answer_stdin(keys, backend)
        return
    found = backend.get(keys, at, connection)
    for key, data in zip(keys, found, strict=True):
        if as_json:
            click.echo(json_line(_json_fields(key, data)))
        else:
            click.echo(found_text(key, data))
    if any(isinstance(data, DataNotFound) for data in found):
        ctx.exit(NOT_FOUND)


@click.command(epilog=_TRAIL_EXAMPLES)
@click.argument("key", callback=check_keys)
@at_option
@json_option
@_connection_option
@backend_options
@click.pass_context
def trail(
    ctx: click.Context,
    key: str,
    at: float | None,
    as_json: bool,
    connection: Connection,
    backend: Backend,
) -> None:
    """Show how a name or an address was reached, with evidence.

    Each tree leads from a question to the key, the likeliest one first. Exit codes: 0 found, 1 not found, 2 wrong usage
    or no capture file, 3 no cache answers.
    """
    found = backend.trail(key, connection, at)
    if isinstance(found, DataNotFound):
        click.echo(found_text(key, found), err=True)
        ctx.exit(NOT_FOUND)
    if as_json:
        click.echo(json_line(found))
        return
    from dnstrail_cli.lookups.tables import show, trail_trees

    show(*trail_trees(found))


def _json_fields(key: str, data: dict[str, Any] | DataNotFound) -> dict[str, Any]:
    if isinstance(data, DataNotFound):
        asked = {"asked": dict(data.asked)} if data.asked else {}
        return {"key": key, "found": False, **asked, **({} if data.history else {"history": False})}
    return {"key": key, "found": True, **data}


def _answer_stdin(keys: tuple[str, ...], backend: Backend) -> None:
    if len(keys) > 1:
        raise SettingsError("the key - stands alone: it reads the keys from stdin")
    sys.stdin.reconfigure(errors="replace")  # type: ignore[union-attr] # stdin is a text stream here
    for answer in backend.answers(sys.stdin):
        click.echo(json_line(answer))


def _fault(key: str) -> str:
    """Return why a text is no key, or ""."""
    if not key:
        return "is empty: write a name or an address"
    if "://" in key:
        return f"is a URL: look up its host{_offer(_host_of(key))}"
    if "/" in key and _is_network(key):
        return "is a network: look up one address of it"
    if key.startswith("*."):
        return rf"is a pattern: look up one name (the label * itself is \042{key[1:]})"
    if found := _PORT.fullmatch(key):
        return f"has a port: look up its host{_offer(found[1].strip('[]'))}"
    return "" if _is_key(key) else "is neither a name nor an address"


def _offer(host: str) -> str:
    return f", {host}" if host and _is_key(host) else ""


def _host_of(url: str) -> str:
    with suppress(ValueError):
        return urlsplit(url).hostname or ""
    return ""


def _is_network(key: str) -> bool:
    with suppress(ValueError):
        return bool(ip_network(key, strict=False))
    return False


def _is_key(key: str) -> bool:
    from dnstrail.dns.names import address_text, name_text

    return address_text(key) is not None or name_text(key) is not None
