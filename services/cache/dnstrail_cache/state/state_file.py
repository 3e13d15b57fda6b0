"""The file of a cache's state: a version, blocks with checksums, and an end. It is read as hostile input.

The file begins with MAGIC. Each block consists of its kind (1 byte), its length and its CRC-32 (4 bytes each, network
order), and MessagePack: one Header, any number of blocks of records, and one End.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import msgspec

from dnstrail.bus.trust import distrust, trusted_users
from dnstrail.errors import DnstrailError
from dnstrail.image.saved import SavedRecord
from dnstrail.protocol.batches import Count
from dnstrail.protocol.turn_follower import Position
from dnstrail_cache.groups.groups import MAX_GROUPS, SavedGroup

MAGIC = b"dnstrail state 1\n"
MOST_BYTES = 256 << 20  #: bytes of a file of state -> it is refused: `state_refused`
MOST_BLOCK = 16 << 20  # bytes of a block: one record of 4,096 relations fits
_BLOCK = 1 << 16  # bytes after which a block of records is complete
_PREFIX = struct.Struct("!BII")
_HEADER, _RECORDS, _END = range(1, 4)
_ENCODE = msgspec.msgpack.Encoder().encode
_NANOSECONDS = msgspec.Meta(ge=-(1 << 62), le=1 << 62)


class StateRefused(DnstrailError):
    """A file of state that cannot be used; the text names the file and the reason."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")


class StateHeader(msgspec.Struct, frozen=True):
    """The knowledge of a cache beside its records.

    `forgotten` is in wall time (ns). `positions` states how far each start of a probe was received, and `groups` how
    far the signature workers were.
    """

    forgotten: int | None = None
    positions: dict[str, Position] = {}
    groups: Annotated[list[SavedGroup], msgspec.Meta(max_length=MAX_GROUPS)] = []


class StateEnd(msgspec.Struct, frozen=True):
    """The end of a whole file: the number of its records."""

    records: Count


_DECODERS: dict[int, Any] = {
    _HEADER: msgspec.msgpack.Decoder(StateHeader),
    _RECORDS: msgspec.msgpack.Decoder(list[SavedRecord]),
    _END: msgspec.msgpack.Decoder(StateEnd),
}


def blocks_of(header: StateHeader, records: Iterable[SavedRecord]) -> Iterator[bytes]:
    """Yield the bytes of a file in pieces; b"" after each record that completes no block."""
    yield MAGIC + _block(_HEADER, _ENCODE(header))
    waiting: list[bytes] = []
    count = size = 0
    for record in records:
        waiting.append(_ENCODE(record))
        count, size = count + 1, size + len(waiting[-1])
        if size >= _BLOCK:
            yield _records(waiting)
            waiting, size = [], 0
        else:
            yield b""
    yield _records(waiting) + _block(_END, _ENCODE(StateEnd(count)))


def read_state(path: Path) -> tuple[StateHeader, list[SavedRecord]] | None:
    """Return the content of a file; None if there is none.

    Raises:
        StateRefused: the file is damaged, or others than this user and root may have written it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateRefused(path, error.strerror or str(error)) from error
    try:
        _check_owner(path, os.fstat(descriptor))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return _read(file)
    except (ValueError, msgspec.DecodeError, RecursionError, MemoryError, OSError) as error:
        raise StateRefused(path, str(error) or "it needs too much memory") from error
    finally:
        os.close(descriptor)


class StateWriter:
    """A new file beside the old one, which it replaces once it is whole and on the disk.

    Raises:
        OSError: the file cannot be written, or its place holds something else than a file. `abandon` then removes the
            new file; the old one stays.
    """

    def __init__(self, path: Path, ending: str = "new") -> None:
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(path.lstat().st_mode):
                raise OSError("it is no regular file")
        self._path = path
        self._new = path.with_name(f".{path.name}.{ending}")
        self._new.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.fdopen(os.open(self._new, flags, 0o600), "wb")

    def write(self, data: bytes) -> None:
        """Append bytes."""
        self._file.write(data)

    def finish(self) -> None:
        """Put the file in the place of the old one: after a crash of the host one of the two is there, whole."""
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
        self._new.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def abandon(self) -> None:
        """Remove the new file."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._new.unlink(missing_ok=True)


def _block(kind: int, body: bytes) -> bytes:
    return _PREFIX.pack(kind, len(body), zlib.crc32(body)) + body


def _records(encoded: list[bytes]) -> bytes:
    """Return a block of records that are encoded already: an array of MessagePack."""
    return _block(_RECORDS, b"\xdd" + struct.pack("!I", len(encoded)) + b"".join(encoded))


def _check_owner(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no file")
    if status.st_uid not in trusted_users():
        raise ValueError(f"it belongs to user {status.st_uid}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ValueError("others may write to it")
    if fault := distrust(path.parent):
        raise ValueError(fault)
    if status.st_size > MOST_BYTES:
        raise ValueError(f"it has {status.st_size} bytes; {MOST_BYTES} at most")


def _read(file: BinaryIO) -> tuple[StateHeader, list[SavedRecord]]:
    if file.read(len(MAGIC)) != MAGIC:
        raise ValueError("it is no state of this version of dnstrail")
    header: StateHeader | None = None
    records: list[SavedRecord] = []
    while True:
        kind, value = _read_block(file)
        if header is None and kind != _HEADER:
            raise ValueError("it is damaged: it has no header")
        if kind == _RECORDS:
            records += value
        elif header is None:
            header = value
        elif kind == _END and value.records == len(records) and not file.read(1):
            return header, records
        else:
            raise ValueError("it is damaged: its end does not fit")


def _read_block(file: BinaryIO) -> tuple[int, Any]:
    prefix = file.read(_PREFIX.size)
    if len(prefix) < _PREFIX.size:
        raise ValueError("it is damaged: it breaks off")
    kind, length, checksum = _PREFIX.unpack(prefix)
    if kind not in _DECODERS or length > MOST_BLOCK:
        raise ValueError("it is damaged: a block that is none")
    body = file.read(length)
    if len(body) < length or zlib.crc32(body) != checksum:
        raise ValueError("it is damaged: the checksum of a block differs")
    return kind, _DECODERS[kind].decode(body)
