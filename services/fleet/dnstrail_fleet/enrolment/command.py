"""`dnstrail fleet invite`, `join` and `revoke`: who may append to the log."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from dnstrail.process.command import NOT_FOUND, check_file_path, examples
from dnstrail.whole_file import write_whole
from dnstrail_fleet.engine_option import JOINED, engine_option
from dnstrail_fleet.log.engine_address import EngineAddress, check_user, encode_invitation, parse_engine

_admin_option = engine_option("The Valkey server with the log, and an administrator of it as USER.")
_ADMIN = "--engine valkeys://admin@engine.example,ca=ca.pem,password=admin.password"
_FILE = click.Path(path_type=Path, dir_okay=False)
_MODE = 0o600  # of an invitation, which is secret


@click.command(epilog=examples(f"dnstrail fleet invite web1 {_ADMIN}"))
@click.argument("host")
@_admin_option
def invite(host: str, engine: EngineAddress) -> None:
    """Make the user of a host at the engine, and a file HOST.json that invites this host.

    Whoever has the file can write as this host, and do nothing else. `dnstrail fleet join` reads it on the host.
    """
    from dnstrail_fleet.enrolment.engine_users import EngineUsers

    path = Path(f"{check_user(host)}.json")
    if path.exists():
        raise click.UsageError(f"{path} exists: move it away")
    with closing(EngineUsers(engine)) as users:
        invited = users.invite(host)
        try:
            write_whole(path, encode_invitation(invited), _MODE, replace=False)
        except OSError:
            users.revoke(host)
            raise
    click.echo(f"{path} invites {host}. Copy it there, and then: sudo dnstrail fleet join {path.name}")


@click.command(epilog=examples("sudo dnstrail fleet join web1.json"))
@click.argument("invitation", type=_FILE, callback=check_file_path)
@click.option(
    "--to",
    type=_FILE,
    default=JOINED,
    show_default=True,
    callback=check_file_path,
    help="File to write, from which `dnstrail fleet send` reads it.",
)
def join(invitation: Path, to: Path) -> None:
    """Try the invitation of this host, and keep it for `dnstrail fleet send`.

    It replaces an earlier one.
    """
    from dnstrail_fleet.log.engine_client import call_engine, open_client

    engine = parse_engine(str(invitation.absolute()))
    with closing(open_client(engine)) as client:
        call_engine(engine, client.ping)
    to.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_whole(to, encode_invitation(engine), _MODE)
    click.echo(f"this host is {engine.user} at {engine.host}. Next: sudo systemctl enable --now dnstrail-fleet-send")
    click.echo("without systemd: sudo dnstrail fleet send")


@click.command(epilog=examples(f"dnstrail fleet revoke web1 {_ADMIN}"))
@click.argument("host")
@_admin_option
@click.pass_context
def revoke(ctx: click.Context, host: str, engine: EngineAddress) -> None:
    """Remove the user of a host at the engine, and its stream as soon as the store has read it.

    Its connections end at once. The store keeps its rows. Exit codes: 0 revoked, 1 no such host.
    """
    from dnstrail_fleet.enrolment.engine_users import EngineUsers

    with closing(EngineUsers(engine)) as users:
        found = users.revoke(host)
    if not found.had_user and not found.had_stream:
        click.echo(f"the engine has no host {host}", err=True)
        ctx.exit(NOT_FOUND)
    if found.had_user:
        click.echo(f"{host} can write no more")
    if found.waiting:
        click.echo(f"{found.waiting} entries wait for the store: revoke {host} again later to remove its stream")
    elif found.had_stream:
        click.echo(f"the stream of {host} is removed")
