"""The file of a cache's state as hostile input: refused with one reason, and never an exception."""

from __future__ import annotations

import os
import stat
import struct
import zlib

import msgspec
import pytest

from builders.dns_builders import response_to, t
from dnstrail.image import Circumstances, Image
from dnstrail.image.saved import saved_records
from dnstrail.protocol.turn_follower import Position
from dnstrail_cache.state.snapshots import save
from dnstrail_cache.state.state_file import (
    MAGIC,
    MOST_BYTES,
    StateHeader,
    StateRefused,
    StateWriter,
    blocks_of,
    read_state,
)
from live.workers import short_folder

HEADER = StateHeader(5, {"start": Position(3, {"net_packet_dns": 2}, {"net_packet_dns": 7})})


@pytest.fixture
def path():
    with short_folder() as folder:
        yield folder / "state"


def records(count=3):
    image = Image()
    for number in range(count):
        payload = response_to(f"{number}.example", f"{number}.example A 192.0.2.1")
        image.feed(t(number), payload, Circumstances(live=True))
    return [record for root in image.roots() for record in saved_records(image, root, 0)]


def written(path, saved):
    writer = StateWriter(path)
    for piece in blocks_of(HEADER, saved):
        writer.write(piece)
    writer.finish()
    return path.read_bytes()


def block(kind, value):
    body = msgspec.msgpack.encode(value)
    return struct.pack("!BII", kind, len(body), zlib.crc32(body)) + body


@pytest.mark.parametrize("count", [0, 1, 2000])
def test_what_is_written_is_read(path, count):
    """A file contains its records and its header, in one block or in many; only its owner can read it."""
    saved = records(count)
    written(path, saved)
    assert read_state(path) == (HEADER, saved)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["state"]


def test_no_file_is_no_fault(path):
    """A cache that starts for the first time has no file."""
    assert read_state(path) is None


def test_every_truncation_is_refused(path):
    """A file that breaks off anywhere is refused."""
    whole = written(path, records(1))
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(StateRefused):
            read_state(path)


def test_every_changed_byte_is_refused(path):
    """A file in which one byte differs is refused."""
    whole = written(path, records(1))
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
        with pytest.raises(StateRefused):
            read_state(path)


GROUP = {"user": 0, "name": "g", "renewed": 1.0, "members": {"a": []}}
BODIES = {
    "another version": b"dnstrail state 2\n",
    "a pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00",
    "no header": MAGIC + block(2, []) + block(3, {"records": 0}),
    "two headers": MAGIC + block(1, {}) * 2 + block(3, {"records": 0}),
    "another count": MAGIC + block(1, {}) + block(3, {"records": 1}),
    "bytes after the end": MAGIC + block(1, {}) + block(3, {"records": 0}) + b"x",
    "an unknown block": MAGIC + block(1, {}) + block(9, {}),
    "a block beyond all bounds": MAGIC + struct.pack("!BII", 1, 1 << 31, 0),
    "records of another type": MAGIC + block(1, {}) + block(2, [{"question": 5}]),
    "a record that contradicts itself": MAGIC
    + block(1, {})
    + block(2, [{**msgspec.to_builtins(records(1)[0]), "answers": []}]),
    "positions of another type": MAGIC + block(1, {"positions": {"s": {"ended": -1, "next": {}, "before": {}}}}),
    "a group without members": MAGIC + block(1, {"groups": [{**GROUP, "members": {}}]}),
    "a group of too many members": MAGIC
    + block(1, {"groups": [{**GROUP, "members": {str(n): [] for n in range(65)}}]}),
    "too many groups": MAGIC + block(1, {"groups": [GROUP] * 65}),
    "deep nesting": MAGIC + struct.pack("!BII", 1, 100000, zlib.crc32(b"\x91" * 100000)) + b"\x91" * 100000,
    "a list of four billion records": MAGIC
    + block(1, {})
    + struct.pack("!BII", 2, 5, zlib.crc32(b"\xdd\xff\xff\xff\xff"))
    + b"\xdd\xff\xff\xff\xff",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_contents_that_no_cache_writes_are_refused(path, body):
    """A file with right checksums and wrong contents is refused, as is another format."""
    path.write_bytes(body)
    with pytest.raises(StateRefused, match=str(path)):
        read_state(path)


def test_a_file_that_others_may_write_is_refused(path):
    """A file with write permission for others is refused, and so is a folder in which others may replace it."""
    written(path, [])
    path.chmod(0o620)
    with pytest.raises(StateRefused, match="others may write to it"):
        read_state(path)
    path.chmod(0o600)
    path.parent.chmod(0o777)
    with pytest.raises(StateRefused, match="others may write to"):
        read_state(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(path):
    """A file that belongs to another user is refused."""
    written(path, [])
    os.chown(path, 12345, 12345)
    with pytest.raises(StateRefused, match="it belongs to user 12345"):
        read_state(path)


def test_what_is_no_file_is_refused(path):
    """A link is not followed, a FIFO does not block, and a folder is no file."""
    target = path.with_name("target")
    written(target, [])
    path.symlink_to(target)
    with pytest.raises(StateRefused, match="Too many levels"):
        read_state(path)
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(StateRefused, match="it is no file"):
        read_state(path)
    path.unlink()
    path.mkdir(0o700)
    with pytest.raises(StateRefused):
        read_state(path)


@pytest.mark.parametrize("kind", ["link", "FIFO", "device", "folder"])
def test_what_is_no_file_is_not_replaced(path, kind):
    """Nothing but a file gives way to a new one: the path stays as it was, and nothing is left beside it."""
    if kind == "link":
        path.symlink_to(path.with_name("target"))
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        try:
            os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))  # as /dev/null
        except PermissionError:
            pytest.skip("this user cannot make a device")
    before = path.lstat()
    assert save(path, [b"x"]) == "it is no regular file"
    assert path.lstat() == before
    assert [*path.parent.iterdir()] == [path]


def test_a_huge_file_is_refused(path):
    """A file beyond the bound is refused before it is read."""
    written(path, [])
    os.truncate(path, MOST_BYTES + 1)
    with pytest.raises(StateRefused, match="bytes; 268435456 at most"):
        read_state(path)


def test_an_abandoned_file_leaves_the_old_one(path):
    """Until the new file is whole the old one stays, and what a crash left is replaced."""
    written(path, records(2))
    writer = StateWriter(path)
    writer.write(MAGIC)
    assert len(read_state(path)[1]) == 2
    StateWriter(path).abandon()
    writer.abandon()
    assert [file.name for file in path.parent.iterdir()] == ["state"]
