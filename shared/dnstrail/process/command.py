"""Console commands: one way to end them, whichever worker they start."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import click

from dnstrail.bus.ipc import default_run_dir
from dnstrail.errors import CaptureError, DnstrailError, LookupRefused, SettingsError, Unavailable
from dnstrail.process.privileges import User
from dnstrail.process.terminal import escape_unprintable
from dnstrail.protocol.lookups import BAD_REQUEST

USAGE, NO_CACHE, FAILED = 2, 3, 1
LOG_LEVELS = ("debug", "info", "warning", "error")

run_dir_option = click.option(
    "--run-dir",
    type=click.Path(path_type=Path, readable=False),  # whoever opens a socket there says what is wrong
    default=default_run_dir,
    show_default="/run/dnstrail or the user's",
    help="Folder of the sockets.",
)


def _convert_user(_ctx: click.Context, _param: click.Parameter, value: str | None) -> User | None:
    if value is None:
        return None
    uid, _, gid = value.partition(":")
    if not (uid.isdigit() and gid.isdigit()):
        raise click.BadParameter(f"{value!r} is not UID:GID")
    return User(int(uid), int(gid))


user_option = click.option(
    "--user", metavar="UID:GID", callback=_convert_user, help="Become this user once all is loaded (as root)."
)
log_level_option = click.option("--log-level", type=click.Choice(LOG_LEVELS), default="info", show_default=True)


def run_command(command: click.Command, name: str) -> NoReturn:
    """Run a command; what dnstrail raises on purpose becomes one line on stderr and an exit code."""
    try:
        command(prog_name=name)
    except DnstrailError as error:
        click.echo(f"Error: {escape_unprintable(str(error))}", err=True)
        sys.exit(_exit_code(error))
    sys.exit(0)


def _exit_code(error: DnstrailError) -> int:
    bad_request = isinstance(error, LookupRefused) and error.code == BAD_REQUEST
    if bad_request or isinstance(error, SettingsError | CaptureError):
        return USAGE
    return NO_CACHE if isinstance(error, Unavailable) else FAILED
