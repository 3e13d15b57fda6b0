"""The option `--connection`: what is known of a connection, as KEY=VALUE,..."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar

import click

from dnstrail.connection import Connection
from dnstrail.errors import SettingsError
from dnstrail.process.retired import retired_option

_NUMBERS = {"process": 1 << 32, "port": 1 << 16, "source_port": 1 << 16}  # fields with a number below a bound
FIELDS = ("client", "port", "source_port", "process", "container", "host")
T = TypeVar("T")


def connection_option(
    help_text: str, fields: tuple[str, ...] = FIELDS
) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Return an option that describes a connection by these fields. The command receives it as `connection`."""

    def add(command: Callable[..., T]) -> Callable[..., T]:
        @click.option("--connection", "described", multiple=True, metavar="KEY=VALUE,...", help=help_text)
        @wraps(command)
        def with_connection(*args: Any, described: tuple[str, ...], **others: Any) -> T:
            retired = [f"{name}={value}" for name in fields if (value := others.pop(name)) is not None]
            return command(*args, connection=parse_connection((*described, *retired), fields), **others)

        for name in fields:
            spelling = name.replace("_", "-")
            with_connection = retired_option(f"--{spelling}", f"--connection {spelling}=VALUE")(with_connection)
        return with_connection

    return add


def parse_connection(texts: Sequence[str], fields: tuple[str, ...] = FIELDS) -> Connection:
    """Return the connection that all values of `--connection` describe together.

    Raises:
        SettingsError: a key is unknown, or its value is not accepted; the text names the key.
    """
    known: dict[str, Any] = {}
    for text in ",".join(texts).split(",") if texts else ():
        key, _, value = text.partition("=")
        name = key.strip().replace("-", "_")
        if name not in fields or not value:
            raise SettingsError(f"--connection {text!r}: expected KEY=VALUE; known keys: {', '.join(fields)}")
        known[name] = _number(name, value) if name in _NUMBERS else _text(name, value)
    return Connection(**known)


def _number(name: str, value: str) -> int:
    bound = _NUMBERS[name]
    if not (value.isascii() and value.isdigit() and len(value) <= len(str(bound)) and int(value) < bound):
        raise SettingsError(f"--connection {name}: {value!r} is no number from 0 to {bound - 1}")
    return int(value)


def _text(name: str, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise SettingsError(f"--connection {name}: {value!r} is no text") from error
    return _address(value) if name == "client" else value


def _address(client: str) -> str:
    from dnstrail.dns.names import address_text

    address = address_text(client)
    if address is None:
        raise SettingsError(f"--connection client: {client!r} is no address")
    return address
