"""The files of a run: opened with the rights of the caller before the command starts, written when it has ended."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import select
import signal
import socket
import stat
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dnstrail.errors import SettingsError
from dnstrail.regular_file import read_regular, read_trusted
from dnstrail.users import User
from dnstrail_run.command_process import groups_of
from dnstrail_run.launcher import OF_TERMINAL, PASSED

_STDERR = 2
_OWN_TERMINAL = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_TRIES = 3  # to put a file at its path
_PATIENCE = 10.0  # seconds for which a FIFO or a terminal may take nothing
_AGAIN = 0.01  # seconds between two attempts to write there
_PERMISSIONS = 0o666  # of a new file, without those that the umask takes away
MOST_BYTES = 4 << 20  #: bytes of an allow list -> exit code 2


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


def read_list(path: Path, user: User | None, *, trusted: bool = False) -> str:
    """Return the text of an allow list; if it is to be `trusted`, only root and the caller may write or replace it.

    Raises:
        SettingsError: it cannot be read, is no regular file, or is too long; or others may write it.
    """
    try:
        with as_user(user):
            data = read_trusted(path, "--allow") if trusted else read_regular(path, MOST_BYTES)
        if len(data) > MOST_BYTES:
            raise SettingsError(f"--allow {path}: it is longer than {MOST_BYTES} bytes")
        return data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"--allow {path}: {getattr(error, 'strerror', None) or 'no UTF-8'}") from error


class ListFile:
    """The list of `--allow` that `--ask` extends, opened with the rights of the caller before the command starts.

    `check` gets the text that the list would have, and raises SettingsError if it would be none.
    """

    def __init__(self, path: Path, user: User | None, check: Callable[[str], object]) -> None:
        self._path, self._user, self._check = path.absolute(), user, check
        self._file, self._fault = -1, ""
        try:
            with as_user(user):
                self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except OSError as error:
            self._fault = str(error.strerror)

    def add(self, line: str) -> str:
        """Add a line behind the others; return why that is impossible, "" if it was done."""
        if self._fault:
            return self._fault
        try:
            with as_user(self._user):
                if not os.path.samestat(self._path.stat(), os.fstat(self._file)):
                    return "the file was replaced"
                return self._append(line)
        except (OSError, UnicodeDecodeError, SettingsError) as error:
            return getattr(error, "strerror", None) or str(error)

    def _append(self, line: str) -> str:
        data = os.pread(self._file, MOST_BYTES, 0)
        new = ("\n" if data and not data.endswith(b"\n") else "") + f"{line}\n"
        if len(data) + len(new) > MOST_BYTES:
            return f"it would be longer than {MOST_BYTES} bytes"
        self._check(data.decode() + new)
        if os.write(self._file, new.encode()) == len(new):
            return ""
        os.ftruncate(self._file, len(data))
        return os.strerror(errno.ENOSPC)


class OutputFile:
    """A file with the rights of the caller. The command, which has the same rights, may put another one at its path.

    `name` is the option and the path. While the path leads to the file that was opened, this file is written: so links
    and devices stay. Otherwise a new file takes its place. Until `write` the content of an earlier file stays.

    Raises:
        SettingsError: it cannot be written.
    """

    def __init__(self, option: str, path: Path, user: User | None) -> None:
        self.name = f"{option} {os.fsencode(path).decode(errors='backslashreplace')}"
        self._user = user
        self._has_begun = self._is_changed = False
        try:
            with as_user(user):
                self._path = path.absolute()  # the command may move the working directory
                self._is_new = not path.exists()
                self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, _PERMISSIONS)
                self._opened = os.fstat(self._file)
        except OSError as error:
            raise SettingsError(f"{self.name}: {error.strerror}") from error

    @property
    def is_regular(self) -> bool:
        """Whether the file has a content, as no device and no FIFO has."""
        return stat.S_ISREG(self._opened.st_mode)

    def descriptor(self) -> Descriptor:
        """Return the descriptor of a device or a FIFO, which waits for no reader as `write` does."""
        return Descriptor(self.name, self._file)

    def change(self) -> str:
        """Return a sentence about what happened to the file since it was opened, "" if nothing did."""
        with as_user(self._user):
            found = self._found()
        opened = os.fstat(self._file)
        if found is None or not os.path.samestat(found, opened):
            return f"{self.name} was removed or replaced while the command ran: it is written anew."
        changed = self._is_changed or _is_changed(opened, self._opened)
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

    def append(self, text: str) -> None:
        """Add text to what a regular file got in this run, at once. `write` repairs what cannot be written now."""
        self._is_changed |= _is_changed(os.fstat(self._file), self._opened)
        if not self._has_begun:
            os.ftruncate(self._file, 0)
        self._has_begun = True
        with suppress(OSError):
            os.write(self._file, text.encode(errors="backslashreplace"))
        self._opened = os.fstat(self._file)

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


def _is_changed(found: os.stat_result, before: os.stat_result) -> bool:
    """Return whether a file has another content than before; a device and a FIFO have none."""
    version = (found.st_size, found.st_mtime_ns)
    return stat.S_ISREG(found.st_mode) and version != (before.st_size, before.st_mtime_ns)


def _overwrite(file: int, data: bytes) -> None:
    """Write data as the whole content of a file; a device and a FIFO have no content to replace.

    Raises:
        OSError: it cannot be written, or nobody reads it.
    """
    if stat.S_ISREG(os.fstat(file).st_mode):
        os.ftruncate(file, 0)
        os.lseek(file, 0, os.SEEK_SET)
    else:
        os.set_blocking(file, False)
    rest, end = memoryview(data), time.monotonic() + _PATIENCE
    while rest:
        try:
            rest = rest[os.write(file, rest) :]
            end = time.monotonic() + _PATIENCE
        except BlockingIOError as error:
            if time.monotonic() >= end:
                raise OSError(errno.ETIMEDOUT, "nobody reads it") from error
            time.sleep(_AGAIN)


class Descriptor:
    """A descriptor that the caller of dnstrail has opened, and that the command does not get.

    Raises:
        SettingsError: it cannot be written.
    """

    def __init__(self, option: str, number: int) -> None:
        self._number = number
        if number <= _STDERR:
            raise SettingsError(f"{option} {number}: the command has it, too")
        try:
            access = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
        except (OSError, OverflowError) as error:
            raise SettingsError(f"{option} {number}: {os.strerror(errno.EBADF)}") from error
        if access == os.O_RDONLY:
            raise SettingsError(f"{option} {number}: not open for writing")
        os.set_inheritable(number, False)
        if os.isatty(number):  # is writable also with less room than a line: a description of our own does not block
            with suppress(OSError):
                self._number = os.open(f"/proc/self/fd/{number}", _OWN_TERMINAL)

    def append(self, text: str) -> bool:
        """Write a line, unless the reader is too slow to take it; return whether it was written.

        A pipe that is writable takes PIPE_BUF bytes at once; a longer line could block, and is not written.
        """
        line = text.encode()
        with suppress(OSError, ValueError):
            if len(line) <= select.PIPE_BUF and select.select([], [self._number], [], 0)[1]:
                return os.write(self._number, line) == len(line)
        return False


class WriterHandle:
    """The handle of a process that keeps the rights to write the files, which the rest of dnstrail drops.

    It is forked before the launcher, and no other thread may run yet. The command cannot signal it: its real user is
    that of dnstrail. Without files there is no such process.
    """

    def __init__(self, files: Sequence[OutputFile]) -> None:
        self._names = [file.name for file in files]
        self._socket, theirs = socket.socketpair()
        self._process = os.fork() if files else -1
        if self._process == 0:
            code = 1
            try:
                self._socket.close()
                _serve(files, theirs)
                code = 0
            except BaseException:  # noqa: BLE001 - nothing of this process may go on as its parent
                traceback.print_exc()
            finally:
                os._exit(code)
        theirs.close()
        for file in files:
            file.close()
        self._replies = self._socket.makefile("rb")

    def append(self, number: int, text: str) -> None:
        """Add text to a regular file, unless the writer is too slow to take it now: `write` has it, too."""
        with suppress(OSError):
            if select.select([], [self._socket], [], 0)[1]:
                self._socket.sendall(json.dumps({"file": number, "text": text}).encode() + b"\n")

    def changes(self) -> list[str]:
        """Return a sentence for each file that was changed or replaced since it was opened."""
        return self._ask(None)

    def write(self, texts: Sequence[str]) -> list[str]:
        """Write each file; return why some cannot be written."""
        return self._ask(texts)

    def close(self) -> None:
        """End the writer. It discards its files, unless it wrote them."""
        self._replies.close()
        self._socket.close()
        if self._process > 0:
            os.waitpid(self._process, 0)

    def _ask(self, texts: Sequence[str] | None) -> list[str]:
        if not self._names:
            return []
        with suppress(OSError, ValueError):
            self._socket.sendall(json.dumps(texts).encode() + b"\n")
            sentences: list[str] = json.loads(self._replies.readline())
            return [sentence for sentence in sentences if sentence]
        return [f"{name}: the process that writes it was ended" for name in self._names]


def _serve(files: Sequence[OutputFile], asked: socket.socket) -> None:
    """Answer the other end until it is closed."""
    for number in (*PASSED, *OF_TERMINAL):  # they are for the command
        signal.signal(number, signal.SIG_IGN)
    written = False
    with asked.makefile("rb") as lines:
        for line in lines:
            texts: list[str] | dict[str, Any] | None = json.loads(line)
            if isinstance(texts, dict):
                files[texts["file"]].append(texts["text"])
                continue
            if texts is None:
                sentences = [file.change() for file in files]
            else:
                written = True
                sentences = [file.write(text) for file, text in zip(files, texts, strict=True)]
            asked.sendall(json.dumps(sentences).encode() + b"\n")
    for file in () if written else files:
        file.discard()


class RefusalLines:
    """Where `--refusals` writes: a descriptor, or the last file of the writer.

    `lines` are those of this file, kept for the end, where the writer repairs what it could not write.
    """

    def __init__(self, writer: WriterHandle, number: int, descriptor: Descriptor | None) -> None:
        self._writer = writer
        self._number = number
        self.descriptor = descriptor
        self.lines: list[str] = []

    def append(self, line: str) -> bool:
        """Write a line at once; return False if it is lost."""
        if self.descriptor is not None:
            return self.descriptor.append(line)
        self.lines.append(line)
        self._writer.append(self._number, line)
        return True
