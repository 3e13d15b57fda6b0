"""A lookup at the cache of one host of the fleet, at the address that the settings name (`[fleet.hosts]`)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

import click

from dnstrail.errors import BusError, DataNotFound, DataSourceError, SettingsError
from dnstrail.process.command import NOT_FOUND, default_run_dir
from dnstrail.process.config_file import FLEET, ConfigFile, given_config
from dnstrail.process.terminal import escape_unprintable, json_line

_HOSTS = "hosts"  # the table of addresses by the name of the host
_Answer = dict[str, Any] | DataNotFound


def show_of_host(ctx: click.Context, op: str, key: str, at: float | None, host: str, *, as_json: bool) -> bool:
    """Print what the cache of a host answers to `get` or `trail`, with the host; exit with 1 if nothing was found.

    False: no usable answer came, and a line on stderr states why.

    Raises:
        SettingsError: the settings cannot be used.
    """
    address = host_addresses(given_config(ctx)).get(host)
    reason = f"the settings name no address for it in [{FLEET}.{_HOSTS}]"
    if address is not None:
        try:
            answer = _ask(address, op, key, at)
            show = _made_json(key, host, answer) if as_json else _made_text(op, key, host, answer)
        except (DataSourceError, BusError, SettingsError) as error:  # SettingsError: this user has no keys
            reason = str(error)
        except Exception as error:  # noqa: BLE001 - a host that was taken over may answer anything
            reason = f"its reply is unusable: {error!r:.80}"
        else:
            show()
            if isinstance(answer, DataNotFound):
                click.echo("not found", err=True)
                ctx.exit(NOT_FOUND)
            return True
    click.echo(escape_unprintable(f"dnstrail: no answer from {host}, so this is from the store: {reason}"), err=True)
    return False


def host_addresses(config: ConfigFile) -> dict[str, str]:
    """Return the addresses of caches by host.

    Raises:
        SettingsError: the table `[fleet]` has another key, or a value is no address.
    """
    from dnstrail.bus.ipc import check_address

    for key in config.table(FLEET):
        if key != _HOSTS:
            raise config.unknown(key, (_HOSTS,), FLEET)
    addresses = config.table(FLEET, _HOSTS)
    for host, address in addresses.items():
        place = f"[{FLEET}.{_HOSTS}] {host}"
        if not isinstance(address, str):
            raise config.refusal(place, "must be an address; quote a name with dots")
        try:
            check_address(address)
        except BusError as error:
            raise config.refusal(place, error.reason) from error
    return addresses


def _ask(address: str, op: str, key: str, at: float | None) -> _Answer:
    """Return the answer of a cache.

    Raises:
        DataSourceError: it does not answer, or refuses.
        BusError: its key is not known.
        SettingsError: this user has no keys.
    """
    from dnstrail.connection import Connection
    from dnstrail_cli.lookups.cache_backend import CacheBackend

    with closing(CacheBackend(address, default_run_dir())) as cache:
        if op == "trail":
            return cache.trail(key, Connection(), at)
        [found] = cache.get([key], at, Connection())
        return found if isinstance(found, DataNotFound) else {"key": key, **found}


def _made_json(key: str, host: str, answer: _Answer) -> Callable[[], None]:
    """Return what prints an answer as JSON."""
    is_found = not isinstance(answer, DataNotFound)
    fields = {"key": key, "history": answer.history} if isinstance(answer, DataNotFound) else answer
    return partial(click.echo, json_line({**fields, "found": is_found, "answered_by": "host", "host": host}))


def _made_text(op: str, key: str, host: str, answer: _Answer) -> Callable[[], None]:
    """Return what prints an answer for people, as `dnstrail get` and `dnstrail trail` do."""
    from dnstrail_cli.lookups.found_text import found_text

    title = f"{'host':<11}{escape_unprintable(host)}\n"
    if op == "get" or isinstance(answer, DataNotFound):
        return partial(click.echo, title + found_text(key, answer))
    from rich.text import Text

    from dnstrail_cli.lookups.tables import show, trail_trees

    return partial(show, Text(title.rstrip()), *trail_trees(answer))
