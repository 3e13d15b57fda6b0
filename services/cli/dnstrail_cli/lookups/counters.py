"""`dnstrail stats` and `dnstrail health`: the counters and the status of a running cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click

from dnstrail.process.command import NOT_FOUND, examples, run_dir_option
from dnstrail.process.terminal import escape_unprintable, json_line
from dnstrail_cli.lookups.options import cache_option, json_option
from dnstrail_cli.lookups.timestamps import local_time

_STATS_EXAMPLES = examples("dnstrail stats", "dnstrail stats --watch", "dnstrail stats --json | jq .lost")
_HEALTH_EXAMPLES = examples("dnstrail health", "dnstrail health || systemctl status dnstrail-probe")


@click.command(epilog=_STATS_EXAMPLES)
@json_option
@click.option("--watch", is_flag=True, help="Show the counters that are not 0, and their rates, every second.")
@cache_option
@run_dir_option
def stats(as_json: bool, watch: bool, cache: str | None, run_dir: Path) -> None:
    """Show the counters of the cache and the probes, with all losses."""
    if not watch:
        _show("stats", _request("stats", cache, run_dir), as_json=as_json)
        return
    with _requests("stats", cache, run_dir) as request:
        _watch(request, as_json=as_json)


def _watch(request: Callable[[], dict[str, Any]], *, as_json: bool) -> None:
    """Show the counters every second until the command is interrupted."""
    from dnstrail_cli.lookups.tables import every_second, rate_tables, show_live

    counters = every_second(request)
    if not as_json:
        show_live(partial(rate_tables, counters, time.monotonic))
    for data in counters:
        click.echo(json_line(data))


@click.command(epilog=_HEALTH_EXAMPLES)
@json_option
@cache_option
@run_dir_option
@click.pass_context
def health(ctx: click.Context, as_json: bool, cache: str | None, run_dir: Path) -> None:
    """Exit with 0 if the cache hears a probe and keeps up, and the signatures run.

    Otherwise prints the status and exits with 1: waiting (no probe was heard yet), silent (no probe is heard any more),
    vanished (one probe stopped without its last turn, another one is heard), ended (all captures have ended), behind
    (the cache is more than a second behind its probes), or ok before the first event was applied and while a signature
    does not run as its settings state. Exits with 3 if no cache answers.
    """
    data = _request("health", cache, run_dir)
    _show("health", data if as_json else {**data, "now": local_time(data.get("now"))}, as_json=as_json)
    fault = _fault(data)
    if fault:
        click.echo(f"dnstrail: not healthy: {escape_unprintable(fault)}", err=True)
        ctx.exit(NOT_FOUND)


def _fault(data: dict[str, Any]) -> str:
    """Return why a cache counts as not healthy, or ""."""
    if data["status"] != "ok":
        return str(data["status"])
    if not data.get("fed", True):
        return "a probe is heard, but no event was applied yet"
    failed = data.get("signatures") or {}
    return "; ".join(f"signature {name}: {reason}" for name, reason in failed.items())


def _request(op: str, cache: str | None, run_dir: Path) -> dict[str, Any]:
    with _requests(op, cache, run_dir) as request:
        return request()


@contextmanager
def _requests(op: str, cache: str | None, run_dir: Path) -> Iterator[Callable[[], dict[str, Any]]]:
    """Yield a function that sends a request to the cache, and returns the data of its reply."""
    from dnstrail_cli.lookups.cache_backend import CacheBackend

    with closing(CacheBackend(cache, run_dir)) as backend:
        yield partial(backend.request, op)


def _show(title: str, data: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json_line(data))
        return
    from dnstrail_cli.lookups.tables import counters_table, show

    show(counters_table(title, data))
