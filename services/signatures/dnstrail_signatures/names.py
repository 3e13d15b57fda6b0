"""The names of signatures and of the events that they report, for people and for a process that runs no signature."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click
import msgspec

from dnstrail.errors import SettingsError
from dnstrail.process.config_file import ConfigFile
from dnstrail.process.privileges import drop_privileges
from dnstrail.process.terminal import escape_unprintable
from dnstrail.users import User
from dnstrail_signatures.load import find, load
from dnstrail_signatures.signature_settings import enabled, settings_of


class Names(msgspec.Struct, frozen=True):
    """The reply: the names, or the error that a signature file caused."""

    names: tuple[str, ...] = ()
    error: str = ""


@contextmanager
def private_stdout() -> Iterator[BinaryIO]:
    """Yield stdout, and let everything else that this process prints go to stderr."""
    with os.fdopen(os.dup(1), "wb") as stdout:
        os.dup2(2, 1)
        yield stdout


def write_names(stdout: BinaryIO, paths: Iterable[Path], config: ConfigFile, user: User | None) -> None:
    """Write the reply as one JSON line, without disabled signatures. The signatures are run as the user."""
    try:
        found = find(paths, user.uid if user else None)
        drop_privileges(user)
        loaded = load(found)
        settings = settings_of(config, loaded)
        reply = Names(tuple(cls.metadata.event_name for cls in enabled(loaded, settings)))
    except SettingsError as error:
        reply = Names(error=str(error))
    stdout.write(msgspec.json.encode(reply) + b"\n")


def write_list(paths: Iterable[Path], user: User | None) -> None:
    """Print event, id, version and name of each signature on one line. The signatures are run as the user.

    Raises:
        SettingsError: a signature file does not load.
    """
    found = find(paths, user.uid if user else None)
    drop_privileges(user)
    described = [(one.event_name, one.id, one.version, one.name) for one in (cls.metadata for cls in load(found))]
    for fields in described:
        click.echo("\t".join(map(escape_unprintable, fields)))
