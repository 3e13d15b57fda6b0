"""Questions to a cache, or to a capture file alone: `get`, `stats`, `health`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from dnstrail.bus.ipc import lookups_address
from dnstrail.client import LookupClient
from dnstrail.errors import SettingsError
from dnstrail.process.command import run_dir_option
from dnstrail.process.terminal import json_line
from dnstrail.protocol.lookups import MAX_KEYS
from dnstrail.settings import parse_dnscache
from dnstrail_cli.capture_lookup import Replayed, answer_lines
from dnstrail_cli.options import at_option, cache_option, capture_option, dnscache_option, json_option
from dnstrail_cli.tables import counters_table, found_table, show
from dnstrail_probe.options import CaptureOptions, capture_options

NOT_FOUND = 1


@click.command()
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@at_option
@json_option
@capture_option
@dnscache_option
@capture_options
@cache_option
@run_dir_option
@click.pass_context
def get(
    ctx: click.Context,
    keys: tuple[str, ...],
    at: float | None,
    as_json: bool,
    capture: str | None,
    dnscache: tuple[str, ...],
    options: CaptureOptions,
    cache: str | None,
    run_dir: Path,
) -> None:
    """Look names and addresses up.

    With --capture FILE and the one key "-", reads lines {"key": ..., "at": epoch}, sorted by "at", and writes one
    JSON line for each.
    """
    if capture is None and (dnscache or "-" in keys):
        raise SettingsError("--dnscache and the key - go with --capture FILE")
    if capture is not None and keys == ("-",):
        _answer_stdin(Replayed(capture, parse_dnscache(dnscache), options))
        return
    if capture is not None:
        found = _ask_file(Replayed(capture, parse_dnscache(dnscache), options), keys, at)
    else:
        found = _ask_cache(cache or lookups_address(run_dir), keys, at)
    for key, data in zip(keys, found, strict=True):
        if as_json:
            click.echo(json_line({"key": key, "found": data is not None, **(data or {})}))
        else:
            show(found_table(key, data))
    if None in found:
        ctx.exit(NOT_FOUND)


@click.command()
@json_option
@cache_option
@run_dir_option
def stats(as_json: bool, cache: str | None, run_dir: Path) -> None:
    """Show what was seen, kept, answered and lost."""
    _show_counters("stats", cache or lookups_address(run_dir), as_json=as_json)


@click.command()
@json_option
@cache_option
@run_dir_option
def health(as_json: bool, cache: str | None, run_dir: Path) -> None:
    """Show whether the cache hears a probe."""
    _show_counters("health", cache or lookups_address(run_dir), as_json=as_json)


def _show_counters(op: str, address: str, *, as_json: bool) -> None:
    data = request(address, op)
    if as_json:
        click.echo(json_line(data))
    else:
        show(counters_table(op, data))


def request(address: str, op: str, **fields: object) -> Any:
    """The data that a cache answers; what is None is not asked."""
    client = LookupClient(address)
    try:
        return client.request(op, **{name: value for name, value in fields.items() if value is not None})["data"]
    finally:
        client.close()


def _ask_cache(address: str, keys: tuple[str, ...], at: float | None) -> list[dict[str, Any] | None]:
    if len(keys) > MAX_KEYS:
        raise SettingsError(f"{len(keys)} keys; {MAX_KEYS} at most in one command")
    asked = [key.encode(errors="replace").decode() for key in keys]
    found: list[dict[str, Any] | None] = request(address, "get_many", keys=asked, at=at)
    return found


def _ask_file(replayed: Replayed, keys: tuple[str, ...], at: float | None) -> list[dict[str, Any] | None]:
    found = [replayed.get(key, at) for key in keys]
    replayed.advance(None)
    warn(replayed)
    return [None if one is None else one.fields for one in found]


def _answer_stdin(replayed: Replayed) -> None:
    sys.stdin.reconfigure(errors="replace")  # type: ignore[union-attr] # stdin is a text stream here
    for answer in answer_lines(replayed, sys.stdin):
        click.echo(json_line(answer))
    replayed.advance(None)
    warn(replayed)


def warn(replayed: Replayed) -> None:
    """Say how a capture file ended, if it did not end well."""
    if replayed.damage:
        click.echo(f"warning: the capture is {replayed.damage}", err=True)
