"""The files of a run: the forms of a report, the rights to use files, and the allow list."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from dnstrail.errors import SettingsError
from dnstrail.users import User
from dnstrail_run.command_process import groups_of
from dnstrail_run.html_page import html_of
from dnstrail_run.markdown import markdown_of
from dnstrail_run.report import Report

MOST_BYTES = 4 << 20  #: bytes of an allow list -> exit code 2


def _json_of(report: Report) -> str:
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n"


FORMATS: dict[str, Callable[[Report], str]] = {".json": _json_of, ".md": markdown_of, ".html": html_of}


def format_of(path: Path) -> Callable[[Report], str]:
    """Return the function that makes the text of a report for a file.

    Raises:
        SettingsError: the name of the file has another ending.
    """
    if path.suffix not in FORMATS:
        raise SettingsError(f"--report {path}: the name ends with {', '.join(FORMATS)}")
    return FORMATS[path.suffix]


@contextmanager
def as_user(user: User | None) -> Iterator[None]:
    """Use files with the rights of a user."""
    if user is None:
        yield
        return
    groups = os.getgroups()
    os.setgroups(groups_of(user))
    os.setegid(user.gid)
    os.seteuid(user.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def read_list(path: Path, user: User | None) -> str:
    """Return the text of an allow list.

    Raises:
        SettingsError: it cannot be read, or is too long.
    """
    try:
        with as_user(user), path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise SettingsError(f"--allow {path}: larger than {MOST_BYTES} bytes")
        return data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"--allow {path}: {getattr(error, 'strerror', None) or 'no UTF-8'}") from error
