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
from dnstrail.signature import Signature
from dnstrail.users import User
from dnstrail_signatures.loading.load import find, load
from dnstrail_signatures.loading.signature_settings import Settings, enabled, settings_of

_STATES = {True: "on", False: "off"}  # of a signature that no user names


class Names(msgspec.Struct, frozen=True):
    """The reply: the names, those of the enabled signatures, or the error that a signature file caused."""

    names: tuple[str, ...] = ()
    enabled: tuple[str, ...] = ()
    error: str = ""


@contextmanager
def private_stdout() -> Iterator[BinaryIO]:
    """Yield stdout, and let everything else that this process prints go to stderr."""
    with os.fdopen(os.dup(1), "wb") as stdout:
        os.dup2(2, 1)
        yield stdout


def write_names(stdout: BinaryIO, paths: Iterable[Path], config: ConfigFile, user: User | None) -> None:
    """Write the reply as one JSON line. The signatures are run as the user."""
    try:
        reply = _names(*_loaded(paths, config, user))
    except SettingsError as error:
        reply = Names(error=str(error).encode(errors="backslashreplace").decode())
    stdout.write(msgspec.json.encode(reply) + b"\n")


def _names(classes: list[type[Signature]], settings: Settings) -> Names:
    return Names(
        tuple(cls.metadata.event_name for cls in classes),
        tuple(cls.metadata.event_name for cls in enabled(classes, settings)),
    )


def write_list(paths: Iterable[Path], config: ConfigFile, user: User | None) -> None:
    """Print event, id, version, name, and on or off of each signature on one line. The signatures are run as the user.

    Raises:
        SettingsError: a signature file does not load, or the settings are wrong.
    """
    classes, settings = _loaded(paths, config, user)
    on = enabled(classes, settings)
    for cls in classes:
        one = cls.metadata
        fields = (one.event_name, one.id, one.version, one.name, _STATES[cls in on])
        click.echo("\t".join(map(escape_unprintable, fields)))


def _loaded(paths: Iterable[Path], config: ConfigFile, user: User | None) -> tuple[list[type[Signature]], Settings]:
    found = find(paths, user.uid if user else None)
    drop_privileges(user)
    classes = load(found)
    return classes, settings_of(config, classes)
