"""The keys of a full segment: a reader knows that a name, address or process is not in it without opening it.

A Bloom filter beside the segment, in blocks: all bits of a key are in one block, and each block has a checksum. A
reader reads one block. If the file or the block is missing or damaged, it opens the segment.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

from dnstrail.dns.names import known_address
from dnstrail.history.rows import rows
from dnstrail.process.private_folder import SAFELY

KEYS: Final = ".keys"  # the ending of the name of the file
_KIND: Final = crc32(b"keys of a segment of dnstrail, 1")
_BLOCK: Final = 64  # bytes
_CHECKSUM: Final = 4  # bytes of them
_BITS: Final = 8 * (_BLOCK - _CHECKSUM)
_BITS_OF_TEXT: Final = 24  # a key of 12 bits or more is found in vain in one of 270 segments
_HASHES: Final = 6
_LABELS: Final = 4  # of the longest end of a name that is a key by itself
_DESTINATIONS: Final = "SELECT DISTINCT destination FROM paths WHERE destination IS NOT NULL"


class HashedKey(NamedTuple):
    """A key as the blocks have it: its number, modulo that of the blocks, is that of its block; `bits` are its bits."""

    number: int
    bits: int


def write_keys(path: Path, database: sqlite3.Connection) -> None:
    """Write the keys of a full segment beside it; `path` is that of the segment.

    Raises:
        BAD_CONTENTS, sqlite3.Error: The segment cannot be read.
        OSError: They cannot be written.
    """
    [texts] = database.execute("SELECT count(*) FROM texts").fetchone()
    blocks = [0] * (1 + texts * _BITS_OF_TEXT // _BITS)
    for key in _keys_of(database):
        number, bits = hash_key(key)
        blocks[number % len(blocks)] |= bits
    remove_keys(path)
    descriptor = os.open(path.with_suffix(KEYS), os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFELY, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        for number, bits in enumerate(blocks):
            packed = bits.to_bytes(_BLOCK - _CHECKSUM, "big")
            file.write(packed + _checksum(packed, number, len(blocks)))


def remove_keys(path: Path) -> None:
    """Remove the keys of a segment; before it: they state what was in it.

    Raises:
        OSError: They cannot be removed.
    """
    path.with_suffix(KEYS).unlink(missing_ok=True)


def hash_key(key: str) -> HashedKey:
    """Return the hash of a key, for all segments in which it is looked for."""
    digest = blake2b(key.encode(errors="surrogatepass"), digest_size=4 + 2 * _HASHES).digest()
    bits = 0
    for start in range(4, len(digest), 2):
        bits |= 1 << int.from_bytes(digest[start : start + 2], "big") % _BITS
    return HashedKey(int.from_bytes(digest[:4], "big"), bits)


def lacks_key(path: Path, keys: Iterable[HashedKey]) -> bool:
    """Return whether a full segment certainly lacks one of some keys."""
    with suppress(OSError):
        name = str(path).rpartition(".")[0] + KEYS  # faster than with_suffix: thousands of segments may be asked
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | SAFELY)
        try:
            count = os.fstat(descriptor).st_size // _BLOCK
            return count > 0 and any(_is_missing(descriptor, key, count) for key in keys)
        finally:
            os.close(descriptor)
    return False


def key_of_end(end: str) -> str:
    """Return the key that a segment with a name of this end has; "" if there is none."""
    return "" if end[-1:].isdigit() else ".".join(_parents(end))


def _keys_of(database: sqlite3.Connection) -> Iterator[str]:
    """Yield names and addresses, the ends of names, the ids and names of processes, and where connections led."""
    for _, text in rows(database, "texts"):
        yield text
        parents = () if text[-1:].isdigit() else _parents(text)  # an address, but for few names
        for place in range(len(parents)):
            yield ".".join(parents[place:])
    yield from (name for [name] in database.execute("SELECT DISTINCT name FROM programs"))
    yield from (str(pid) for [pid] in database.execute("SELECT DISTINCT pid FROM processes"))
    yield from (known_address(packed) for [packed] in database.execute(_DESTINATIONS))


def _parents(text: str) -> list[str]:
    """Return the last labels, without the first one of the text."""
    return text.split(".")[1:][-_LABELS:]


def _is_missing(descriptor: int, key: HashedKey, count: int) -> bool:
    block, bits = key.number % count, key.bits
    found = os.pread(descriptor, _BLOCK, block * _BLOCK)
    packed = found[:-_CHECKSUM]
    is_whole = found[-_CHECKSUM:] == _checksum(packed, block, count)
    return is_whole and int.from_bytes(packed, "big") & bits != bits


def _checksum(packed: bytes, number: int, count: int) -> bytes:
    """Return the checksum of a block, which is also that of its place and the size of the file."""
    return crc32(packed, crc32(b"%d/%d" % (number, count), _KIND)).to_bytes(_CHECKSUM, "big")
