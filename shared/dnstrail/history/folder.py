"""The folder of the history, as commands that read it name and check it."""

from __future__ import annotations

import os
import pwd
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import click

from dnstrail.errors import SettingsError
from dnstrail.pipeline import HISTORY
from dnstrail.process.privileges import drop_privileges
from dnstrail.users import User, user_of

_T = TypeVar("_T")


def convert_folder(_ctx: click.Context, _param: click.Parameter, folder: Path) -> Path:
    """Return a folder of the history that this user can read.

    Raises:
        SettingsError: There is none, or this user may not read it.
    """
    return check_folder(folder)


def check_folder(folder: Path) -> Path:
    """Return a folder of the history that this user can read.

    Raises:
        SettingsError: There is none, or this user may not read it.
    """
    try:
        with os.scandir(folder):
            return folder
    except PermissionError as error:
        raise SettingsError(f"--folder {folder}: {error.strerror}: run this as root, or as {_owner(folder)}") from error
    except OSError as error:
        hint = "`dnstrail history` makes it; name another one if it writes elsewhere"
        raise SettingsError(f"--folder {folder}: {error.strerror}: {hint}") from error


def become_owner(folder: Path) -> None:
    """Become the user and the group of a folder, if root asks: this user may have made the files in it.

    Raises:
        SettingsError: There is no such folder.
    """
    if (owner := owner_of(folder)) is not None:
        drop_privileges(owner)


def owner_of(folder: Path) -> User | None:
    """Return the user and the group of a folder; None if it is root, or root does not ask.

    Raises:
        SettingsError: There is no such folder.
    """
    try:
        status = folder.stat()
    except OSError as error:
        raise SettingsError(f"--folder {folder}: {error.strerror}") from error
    if os.geteuid() != 0 or not status.st_uid:
        return None
    return User(status.st_uid, status.st_gid or user_of(status.st_uid).gid)


@contextmanager
def reading_history() -> Iterator[None]:
    """Report what prevents the history from being read.

    Raises:
        SettingsError: It cannot be read.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, sqlite3.Error) as error:
        raise SettingsError(f"the history cannot be read: {error}") from error


def reading(read: Callable[[], Iterable[_T]]) -> Iterator[_T]:
    """Yield what a function reads from the history. An error of whoever handles it is none of the history.

    Raises:
        SettingsError: It cannot be read.
    """
    with reading_history():
        yield from read()


folder_option = click.option(
    "--folder",
    type=click.Path(path_type=Path, readable=False),
    default=HISTORY,
    show_default=True,
    callback=convert_folder,
    help="Folder of the history; it is only read.",
)


def _owner(folder: Path) -> str:
    with suppress(OSError, KeyError):
        return f"the user {pwd.getpwuid(folder.stat().st_uid).pw_name}"
    return "the user of `dnstrail history`"
