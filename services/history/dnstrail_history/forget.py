"""`dnstrail history forget`: what is no longer to be kept."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import click

from dnstrail.history.folder import become_owner, reading_history
from dnstrail.history.subjects import Subjects, subject_of, user_id
from dnstrail.process.clock import SystemClock
from dnstrail.process.command import examples
from dnstrail.process.log import configure
from dnstrail.process.private_folder import FolderInUseError
from dnstrail_history.store.forgetting import ask_to_forget
from dnstrail_history.store.store import FactStore

_EXAMPLES = examples(
    "dnstrail history forget bank.example",
    "dnstrail history forget 192.0.2.1",
    "dnstrail history forget --user alice",
)
_LOOK = 0.1  # seconds between two looks for the end of a request


class HistoryFolder(NamedTuple):
    """The folder of a command below `dnstrail history`, and what is never kept."""

    path: Path
    excluded: Subjects


@click.command(epilog=_EXAMPLES)
@click.argument("key", required=False)
@click.option("--user", metavar="NAME|UID", help="Forget all questions of this user.")
@click.pass_obj
def forget(chosen: HistoryFolder, key: str | None, user: str | None) -> None:
    """Remove a name and all names below it, an address, or a user from the history.

    Each file that holds it is written anew. A running worker does this, and goes on. After an interruption it goes on
    at its next start. Image and findings stay as they are.
    """
    if key is not None and user is None:
        subjects = subject_of(key)
    elif user is not None and key is None:
        subjects = Subjects(users=frozenset({user_id(user)}))
    else:
        raise click.UsageError("name a KEY or a --user")
    configure("history", "warning")
    folder = chosen.path
    become_owner(folder)
    clock = SystemClock()
    with reading_history():
        request = ask_to_forget(folder, subjects)
        click.echo("dnstrail: each file that holds it is written anew; Ctrl-C leaves this to the worker", err=True)
        while request.exists():
            _fulfil(folder, request, clock)
            clock.sleep(_LOOK)


def _fulfil(folder: Path, request: Path, clock: SystemClock) -> None:
    """Fulfil a request, unless a worker uses the folder and does it."""
    try:
        store = FactStore(folder, clock, days=sys.maxsize, most_bytes=sys.maxsize)
    except FolderInUseError:
        return
    with closing(store):
        while request.exists():
            store.step()
            clock.sleep(_LOOK)
