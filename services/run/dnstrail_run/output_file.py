"""A file of a run: opened before the command starts, and written at its path when the command has ended."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from dnstrail.errors import SettingsError
from dnstrail.users import User
from dnstrail_run.files import as_user

_TRIES = 3  # to put a file at its path
_PERMISSIONS = 0o666  # of a new file, without those that the umask takes away


class OutputFile:
    """A file with the rights of the caller. The command, which has the same rights, may put another one at its path.

    `name` is the option and the path. While the path leads to the file that was opened, this file is written: so links
    and devices stay. Otherwise a new file takes its place. Until `write` the content of an earlier file stays.

    Raises:
        SettingsError: it cannot be written.
    """

    def __init__(self, option: str, path: Path, user: User | None) -> None:
        self.name = f"{option} {path}"
        self._user = user
        try:
            with as_user(user):
                self._path = path.absolute()  # the command may move the working directory
                self._is_new = not path.exists()
                self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, _PERMISSIONS)
                self._opened = os.fstat(self._file)
        except OSError as error:
            raise SettingsError(f"{self.name}: {error.strerror}") from error

    def change(self) -> str:
        """Return a sentence about what happened to the file since it was opened, "" if nothing did."""
        with as_user(self._user):
            found = self._found()
        opened = os.fstat(self._file)
        if found is None or not os.path.samestat(found, opened):
            return f"{self.name} was removed or replaced while the command ran: it is written anew."
        changed = stat.S_ISREG(opened.st_mode) and _version(opened) != _version(self._opened)
        return f"{self.name} was changed while the command ran: it is overwritten." if changed else ""

    def write(self, text: str) -> str:
        """Write and close the file; return why it cannot be written, "" if it was."""
        try:
            with as_user(self._user):
                return self._write(text.encode(errors="backslashreplace"))
        except OSError as error:
            return f"{self.name}: {error.strerror}"
        finally:
            os.close(self._file)

    def close(self) -> None:
        """Close the file in this process."""
        os.close(self._file)

    def discard(self) -> None:
        """Close a file that is not written: remove it if it was made for this run, and is empty still."""
        with as_user(self._user), suppress(OSError):
            if self._is_new and self._is_in_place() and not os.fstat(self._file).st_size:
                self._path.resolve().unlink()
        os.close(self._file)

    def _write(self, data: bytes) -> str:
        written = self._is_in_place()
        if written:
            _overwrite(self._file, data)
        for _ in range(_TRIES):
            if written and self._is_in_place():
                return ""
            self._replace(data)
            written = True
        return "" if self._is_in_place() else f"{self.name}: something replaces it again and again"

    def _found(self) -> os.stat_result | None:
        """Return what is at the path, None if nothing is found there."""
        with suppress(OSError):
            return self._path.stat()
        return None

    def _is_in_place(self) -> bool:
        return (found := self._found()) is not None and os.path.samestat(found, os.fstat(self._file))

    def _replace(self, data: bytes) -> None:
        """Put a new file at the path, with the permissions of the one that was opened."""
        new = self._path.with_name(f".dnstrail-{secrets.token_hex(8)}")
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _overwrite(file, data)
            os.fchmod(file, stat.S_IMODE(os.fstat(self._file).st_mode))
            new.rename(self._path)
        except OSError:
            os.close(file)
            new.unlink(missing_ok=True)
            raise
        os.dup2(file, self._file, inheritable=False)
        os.close(file)


def _version(found: os.stat_result) -> tuple[int, int]:
    return found.st_size, found.st_mtime_ns


def _overwrite(file: int, data: bytes) -> None:
    """Write data as the whole content of a file; a device and a FIFO have no content to replace."""
    if stat.S_ISREG(os.fstat(file).st_mode):
        os.ftruncate(file, 0)
        os.lseek(file, 0, os.SEEK_SET)
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]
