"""`dnstrail fleet get`, `trail`, `hosts`, `new` and `top`: what the store of the fleet knows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from dnstrail.process.command import NOT_FOUND, check_address, examples, run_dir_option
from dnstrail.process.terminal import escape_unprintable, json_line
from dnstrail_cli.fleet.asked_host import show_of_host
from dnstrail_cli.lookups.lookup import check_keys
from dnstrail_cli.lookups.options import at_option, json_option
from dnstrail_cli.lookups.timestamps import local_time
from dnstrail_cli.seen.command import since_option

T = TypeVar("T")
Ask = Callable[..., dict[str, Any]]
_DAY = 86_400  # seconds
_SECONDS = 1.0  # for a reply
_OF_STORE = {"answered_by": "store"}


def _asking(command: Callable[..., T]) -> Callable[..., T]:
    """Add the options that name the store; the command receives `ask`."""

    @click.option(
        "--store",
        metavar="ADDRESS",
        callback=check_address,
        help="Address of the store (default: fleet.sock in the run-dir).",
    )
    @run_dir_option
    @wraps(command)
    def with_store(*args: Any, store: str | None, run_dir: Path, **others: Any) -> T:
        def ask(op: str, **fields: object) -> dict[str, Any]:
            from dnstrail.bus.ipc import fleet_address
            from dnstrail.client import LookupClient
            from dnstrail.errors import Unavailable

            address = store or fleet_address(run_dir)
            try:
                with closing(LookupClient(address, timeout=_SECONDS)) as client:
                    return client.request(op, **fields)
            except Unavailable as error:
                remedy = "is `dnstrail fleet store` running?" if error.reason in ("absent", "timeout") else error.remedy
                raise Unavailable(address, _SECONDS, error.reason, remedy) from error

        return command(*args, ask=ask, **others)

    return with_store


_host_option = click.option(
    "--host", metavar="NAME", help="Ask this host, if the settings have its address; else only for its rows."
)


@click.command(epilog=examples("dnstrail fleet get 203.0.113.7", "dnstrail fleet get shop.example --at -2d --json"))
@click.argument("key", callback=check_keys)
@at_option
@_host_option
@json_option
@_asking
@click.pass_context
def get(ctx: click.Context, key: str, at: float | None, host: str | None, as_json: bool, ask: Ask) -> None:
    """Show which hosts know a name or an address, under which names, since when, and who asked.

    A private address is shown by host, and never merged. Exit codes: 0 found, 1 not found, 3 no store answers.
    """
    _look_up(ctx, "get", key, at, host, ask, _get_lines, as_json=as_json)


@click.command(epilog=examples("dnstrail fleet trail 203.0.113.7 --host web1"))
@click.argument("key", callback=check_keys)
@at_option
@_host_option
@json_option
@_asking
@click.pass_context
def trail(ctx: click.Context, key: str, at: float | None, host: str | None, as_json: bool, ask: Ask) -> None:
    """Show how each host and program reached a name or an address, the newest first."""
    _look_up(ctx, "trail", key, at, host, ask, _trail_lines, as_json=as_json)


@click.command(epilog=examples("dnstrail fleet hosts --json"))
@json_option
@_asking
@click.pass_context
def hosts(ctx: click.Context, as_json: bool, ask: Ask) -> None:
    """Show all hosts: when they were heard, what waits, what was lost, and how far their clocks are off."""
    _show(ctx, ask("hosts"), _host_lines, as_json=as_json)


@click.command(epilog=examples("dnstrail fleet new --since -1h"))
@since_option
@json_option
@_asking
@click.pass_context
def new(ctx: click.Context, since: float | None, as_json: bool, ask: Ask) -> None:
    """Show the names that no host asked for before the last day, or before --since, the newest first."""
    _show(ctx, ask("new", since=time.time() - _DAY if since is None else since), _new_lines, as_json=as_json)


@click.command(epilog=examples("dnstrail fleet top names"))
@click.argument("what", type=click.Choice(("hosts", "names", "addresses")))
@json_option
@_asking
@click.pass_context
def top(ctx: click.Context, what: str, as_json: bool, ask: Ask) -> None:
    """Show the hosts, names or addresses of the newest day with the most answers."""
    _show(ctx, ask("top", what=what), _top_lines, as_json=as_json)


def _look_up(
    ctx: click.Context,
    op: str,
    key: str,
    at: float | None,
    host: str | None,
    ask: Ask,
    lines: Callable[[dict[str, Any]], Iterable[str]],
    *,
    as_json: bool,
) -> None:
    """Print what a host answers, or what the store knows."""
    if host is not None and show_of_host(ctx, op, key, at, host, as_json=as_json):
        return
    reply = _found(ask, op, key=key, at=at, host=host)
    if reply is None and as_json:
        click.echo(json_line({"key": key, "found": False, **_OF_STORE}))
    _show(ctx, reply and {**reply, "found": True, **_OF_STORE}, lines, as_json=as_json)


def _found(ask: Ask, op: str, *, at: float | None, host: str | None, **fields: object) -> dict[str, Any] | None:
    """Return the reply, None if the key is not known."""
    from dnstrail.errors import DataNotFound

    given = {name: value for name, value in (("at", at), ("host", host)) if value is not None}
    try:
        return ask(op, **fields, **given)
    except DataNotFound as error:
        if not error.complete:
            click.echo("dnstrail: some hosts are behind: see `dnstrail fleet hosts`", err=True)
        return None


def _show(
    ctx: click.Context,
    reply: dict[str, Any] | None,
    lines: Callable[[dict[str, Any]], Iterable[str]],
    *,
    as_json: bool,
) -> None:
    if reply is None:
        click.echo("not found", err=True)
        ctx.exit(NOT_FOUND)
    data = reply["data"]
    if as_json:
        flags = {name: reply[name] for name in ("complete", "history", "found", *_OF_STORE) if name in reply}
        click.echo(json_line({**data, **flags}))
        return
    for line in lines(data):
        click.echo(escape_unprintable(line))
    if data["behind"]:
        named = escape_unprintable(", ".join(data["behind"]))
        click.echo(f"dnstrail: these hosts are behind, and may know more: {named}", err=True)
    if reply.get("history") is False:
        click.echo("dnstrail: this may differ from what was live then: ask the host itself (--host)", err=True)
    if data.get("truncated"):
        click.echo("dnstrail: there is more: only the newest is shown", err=True)


def _get_lines(data: dict[str, Any]) -> Iterable[str]:
    if data["split_horizon"]:
        yield f"{data['key']}  split horizon: hosts have other private addresses"
    for one in data["hosts"]:
        yield f"{one['host']}  {', '.join(one['dns_queries'])}  {', '.join(one['ip_addresses'])}"
        yield f"  {_time(one['first'])} to {_time(one['last'])}, {one['answers']}x"
        if one["last_connection"]:
            yield f"  last connection {_time(one['last_connection'])}"
        for asker in one["askers"]:
            yield f"  by {_asker(asker)}"


def _trail_lines(data: dict[str, Any]) -> Iterable[str]:
    for one in data["trails"]:
        yield f"{one['host']}  {one['question']}  by {_asker(one['asker'])}"
        for owner, rdtype, target in one["steps"]:
            yield f"  {owner} {rdtype} {target}"
        yield f"  {_time(one['first'])} to {_time(one['last'])}, {one['answers']}x"


def _host_lines(data: dict[str, Any]) -> Iterable[str]:
    for one in data["hosts"]:
        words = [f"{name} {one[name]}" for name in ("waiting", "behind", "dropped", "trimmed", "left_out") if one[name]]
        words += [f"refused for {reason} {count}" for reason, count in sorted(one["refused"].items())]
        words += [f"clock off by {one['skew']:+.1f} s"] if one["skew"] else []
        yield "  ".join([one["host"], f"heard {_time(one['heard'])}", *words])


def _new_lines(data: dict[str, Any]) -> Iterable[str]:
    for one in data["names"]:
        yield f"{_time(one['first'])}  {one['name']}  on {one['host']}"


def _top_lines(data: dict[str, Any]) -> Iterable[str]:
    for one in data["top"]:
        where = f"  {one['hosts']} hosts" if "hosts" in one else ""
        place = f"  on {one['host']} alone" if "host" in one else ""
        yield f"{one['answers']:>12,}  {one['name']}{where}{place}"


def _time(seconds: float) -> str:
    return local_time(seconds)[:16]


def _asker(asker: dict[str, str]) -> str:
    words = [asker["program"] or "an unknown program"]
    words += [f"in {asker['container']}"] if asker["container"] else []
    return " ".join(words)
