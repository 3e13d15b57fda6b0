"""Compiled programs that are kept between two starts, in a folder that nobody else can write to.

A file has the name of its key: a digest of all that the compiler reads. It begins with a digest of key and object, so
that a damaged, exchanged or older file is no object.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from dnstrail.errors import SettingsError
from dnstrail.kernel.bpf import VMLINUX
from dnstrail.kernel.compiler import bcc_version, headers
from dnstrail.kernel.objects import BpfObject, compile_object
from dnstrail.process.private_folder import SAFELY, PrivateFolder, open_private
from dnstrail.regular_file import read_regular

#: compiled eBPF programs that are kept: one for each set of options of a probe, and one of `run --enforce` -> the least
#: recently used is removed
MOST_KEPT = 8
#: bytes of one of them -> it is not kept
MOST_BYTES = 1 << 20
FOLDER = Path("/var/cache/dnstrail")  # of root, unless systemd names another one
_NEW = "new"  # the name of a file that is about to replace another one
_DIGEST = 32  # bytes
T = TypeVar("T")


def load_kept(text: str, offsets: Callable[[], str] | None, load: Callable[[BpfObject], T]) -> T:
    """Return what `load` makes of the compiled text, which is kept from then on.

    `offsets` returns the text of what comes first: it follows from the BTF of the kernel, and only the compiler needs
    it. None: nothing comes first, so that the object does not depend on BTF. If the kernel refuses the object that was
    kept, the text is compiled anew.

    Raises:
        SourceUnavailable: bcc is not installed, or it does not compile the text.
        OSError: the kernel refused the programs.
    """
    key = _key(text, by_types=offsets is not None)
    kept = _read(key)
    if kept is not None:
        with suppress(OSError):
            return load(kept)
    compiled = compile_object(text if offsets is None else offsets() + text)
    loaded = load(compiled)
    _keep(key, compiled)
    return loaded


def _key(text: str, *, by_types: bool) -> str:
    """Return the digest of all that leads to an object: text, kernel and (`by_types`) its BTF, headers and bcc."""
    known = hashlib.sha256()
    if by_types:
        with suppress(OSError), VMLINUX.open("rb") as file:
            known = hashlib.file_digest(file, hashlib.sha256)
    parts = (text, *os.uname(), bcc_version(), *(part for header in headers().items() for part in header))
    for part in parts:
        known.update(hashlib.sha256(part.encode()).digest())
    return known.hexdigest()


def _folder() -> Path | None:
    named = os.environ.get("CACHE_DIRECTORY")  # systemd.exec(5)
    if named:
        return Path(named)
    return None if os.geteuid() else FOLDER


def _open() -> PrivateFolder | None:
    """Open the folder; return None if there is none, others can write to it, or another process uses it."""
    folder = _folder()
    with suppress(SettingsError):
        return open_private(folder, "compiled programs") if folder else None
    return None


def _read(key: str) -> BpfObject | None:
    folder = _open()
    if folder is None:
        return None
    with closing(folder), suppress(OSError, ValueError):
        content = read_regular(key, MOST_BYTES, _check, links=False, folder=folder.descriptor)
        digest, packed = content[:_DIGEST], content[_DIGEST:]
        if digest == _digest(key, packed):
            os.utime(key, dir_fd=folder.descriptor, follow_symlinks=False)
            return msgspec.msgpack.decode(packed, type=BpfObject)
    return None


def _check(status: os.stat_result) -> None:
    """Refuse a file that another user may write.

    Raises:
        PermissionError: it is one.
    """
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError("others may write it")


def _keep(key: str, compiled: BpfObject) -> None:
    folder = _open()
    if folder is None:
        return
    packed = msgspec.msgpack.encode(compiled)
    content = _digest(key, packed) + packed
    with closing(folder), suppress(OSError):
        if len(content) <= MOST_BYTES:
            _write(folder.descriptor, key, content)
            _remove_oldest(folder.descriptor)


def _write(folder: int, key: str, content: bytes) -> None:
    with suppress(FileNotFoundError):
        os.unlink(_NEW, dir_fd=folder)
    descriptor = os.open(_NEW, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFELY, 0o600, dir_fd=folder)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    os.rename(_NEW, key, src_dir_fd=folder, dst_dir_fd=folder)


def _remove_oldest(folder: int) -> None:
    """Leave the files that were used last. Only names of keys are files of ours."""
    used = {
        name: os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime_ns
        for name in os.listdir(folder)
        if len(name) == 2 * _DIGEST
    }
    for name in sorted(used, key=lambda name: -used[name])[MOST_KEPT:]:
        os.unlink(name, dir_fd=folder)


def _digest(key: str, packed: bytes) -> bytes:
    return hashlib.sha256(key.encode() + packed).digest()
