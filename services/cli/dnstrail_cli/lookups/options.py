"""The options that lookups share: the time, the connection, the format of the output, and the backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from dnstrail.capture_options import STDIN, STDIN_PATH, CaptureOptions, capture_options
from dnstrail.connection import Connection
from dnstrail.errors import SettingsError
from dnstrail.process.command import check_address, default_run_dir, optional_run_dir_option, retired_option
from dnstrail_cli.lookups.timestamps import convert_moment
from dnstrail_probe.registry import complete_capture, convert_capture_file

if TYPE_CHECKING:
    from dnstrail_cli.lookups.cache_backend import CacheBackend
    from dnstrail_cli.lookups.capture_backend import CaptureBackend

    Backend = CacheBackend | CaptureBackend

T = TypeVar("T")
_OF_CAPTURE = ("dnscache", "dns_ports", "evidence")
_OF_CACHE = ("cache", "run_dir")
_NUMBERS = {"process": 1 << 32, "port": 1 << 16, "source_port": 1 << 16}  # fields with a number below a bound
FIELDS = ("client", "port", "source_port", "process", "container", "host")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object on each line.")


at_option = click.option(
    "--at",
    metavar="TIME",
    callback=convert_moment,
    help="As of a time: epoch seconds, RFC 3339, 14:00, 'yesterday 14:00', -5m, -2h30m (local time zone).",
)

cache_option = click.option(
    "--cache",
    metavar="ADDRESS",
    callback=check_address,
    help="Address of the cache (default: lookups.sock in the run-dir).",
)


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


def backend_options(command: Callable[..., T]) -> Callable[..., T]:
    """Add the options that choose a backend, and call the command with it: a cache, or a capture file."""

    @click.option(
        "--capture",
        metavar="FILE",
        callback=convert_capture_file,
        shell_complete=complete_capture,
        help="Ask a capture file (- for stdin), as of its end or of --at.",
    )
    @click.option("--dnscache", multiple=True, metavar="OPTIONS", help="With --capture: size=X, grace=X, ...")
    @capture_options
    @cache_option
    @optional_run_dir_option
    @wraps(command)
    def with_backend(
        *args: Any,
        capture: str | None,
        dnscache: tuple[str, ...],
        options: CaptureOptions,
        cache: str | None,
        run_dir: Path | None,
        **others: Any,
    ) -> T:
        if capture == STDIN_PATH and STDIN in others.get("keys", ()):
            raise SettingsError("the key - and --capture - both read stdin: name the capture file, or the key")
        _refuse_unused(click.get_current_context(), capture)
        if capture is not None and others["connection"].host is not None:
            raise SettingsError("--connection host goes without --capture: a capture file is of one host")
        backend = _open(capture, dnscache, options, cache, run_dir)
        try:
            return command(*args, backend=backend, **others)
        finally:
            backend.close()

    return with_backend


def _refuse_unused(ctx: click.Context, capture: str | None) -> None:
    """Refuse options on the command line that the chosen backend does not use."""
    unused = _OF_CAPTURE if capture is None else _OF_CACHE
    given = [name for name in unused if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if not given:
        return
    option = f"--{given[0].replace('_', '-')}"
    if capture is None:
        raise SettingsError(f"{option} goes with --capture FILE: a running cache has its own options")
    raise SettingsError(f"{option} goes without --capture: no cache is asked for a capture file")


def _open(
    capture: str | None, dnscache: tuple[str, ...], options: CaptureOptions, cache: str | None, run_dir: Path | None
) -> Backend:
    if capture is not None:
        from dnstrail_cli.lookups.capture_backend import CaptureBackend

        return CaptureBackend(capture, dnscache, options)
    from dnstrail_cli.lookups.cache_backend import CacheBackend

    return CacheBackend(cache, run_dir or default_run_dir())
