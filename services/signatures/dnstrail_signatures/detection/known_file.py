"""The file in which a detection keeps what it knows for its next run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import msgspec

from dnstrail.errors import SettingsError
from dnstrail.regular_file import read_regular

MOST_BYTES = 256 << 20  #: bytes of the file in which a signature keeps what it knows -> it is refused

_Entry = TypeVar("_Entry")


class KnownFile:
    """A file with lines; with the path "" nothing is read, and nothing is kept. `content` names it in errors."""

    def __init__(self, path: str, content: str) -> None:
        self._path = Path(path) if path else None
        self._content = content

    def read(self, parse: Callable[[bytes], list[_Entry]]) -> list[_Entry]:
        """Return what the file contains; nothing if there is none.

        Raises:
            SettingsError: The file cannot be read, or `write` could not replace it.
        """
        if self._path is None:
            return []
        if not os.access(self._path.parent, os.W_OK | os.X_OK):
            raise SettingsError(
                f"{self._content} {self._path}: user {os.geteuid()} cannot write in {self._path.parent}: make this "
                "folder and give it to the user, or name another file"
            )
        if not self._path.exists():
            return []
        try:
            return parse(read_regular(self._path, MOST_BYTES))
        except (OSError, UnicodeDecodeError, msgspec.MsgspecError, RecursionError) as error:
            raise SettingsError(f"{self._content} {self._path}: {error}") from error

    def write(self, lines: Iterable[bytes]) -> None:
        """Replace the content of the file by these lines, which have no ends."""
        if self._path is None:
            return
        descriptor, new = tempfile.mkstemp(dir=self._path.parent, prefix=f"{self._path.name}.")
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
                file.writelines(line + b"\n" for line in lines)
            Path(new).replace(self._path)
        except OSError:
            Path(new).unlink(missing_ok=True)
            raise
