"""Capture files as packets: pcap, pcapng and dnstap, plain or gzip-compressed, streamed, with exact nanoseconds."""

from __future__ import annotations

import gzip
import os
import select
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import cast

from dnstrail.errors import CaptureError
from dnstrail_probe.formats.frame_stream import CONTENT_TYPE, ESCAPE, START, FrameStream, control_frame
from dnstrail_probe.formats.packet import DNSTAP, Packet
from dnstrail_probe.source import CUT_SHORT, DAMAGED

# Appends the packets that stand whole at the start of the data; returns the bytes used, and how many the next
# record needs. What can be no record raises one of _DAMAGE, with what was whole appended.
_Split = Callable[[bytes, list[Packet]], tuple[int, int]]
_DAMAGE = (struct.error, LookupError)

_CHUNK = 1 << 16
_LARGEST_RECORD = 1 << 18  # libpcap's own limit; a pcap file has no other mark of sanity
_MOST_INTERFACES = 1 << 16
_LARGEST_BLOCK = 1 << 24  # as Wireshark's
_SECOND = 10**9

# First bytes of a pcap file -> byte order, nanoseconds in a unit of its fractions, extra bytes a record.
_PCAP = {
    struct.pack(order + "I", magic): (order, unit, more)
    for order in "<>"
    for magic, unit, more in ((0xA1B2C3D4, 1000, 0), (0xA1B23C4D, 1, 0), (0xA1B2CD34, 1000, 8))
}
_PCAP_HEADER = 24
_SECTION = b"\x0a\x0d\x0d\x0a"
_BYTE_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_INTERFACE, _OBSOLETE, _SIMPLE, _ENHANCED = 1, 2, 3, 6
_IF_TSRESOL, _IF_TSOFFSET = 9, 14
_SMALLEST_BLOCK = 12
_DNSTAP_HEADER = control_frame(START, CONTENT_TYPE)

_GZIP = b"\x1f\x8b"
_OTHERS = {  # what else people have, and what to do about it
    **dict.fromkeys(_PCAP, "it was cut short within its header"),
    ESCAPE: "it looks like Frame Streams, but does not start as those of dnstap do",
    b"snoop\0": "it is a snoop file: convert it with `editcap -F pcapng`",
    b"\x28\xb5\x2f\xfd": "it is zstd-compressed: decompress it first",
}


class CaptureReader:
    """The packets of one capture file or pipe; CaptureError where it is none.

    `damage` is "" while all is well, CUT_SHORT where the file ends within a record, DAMAGED where it makes no
    sense from some place on; in both cases what came before has been read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self.damage = path, ""
        self._ended, self._buffer = False, b""
        self._need = 0  # bytes in the buffer that are worth a look
        self._poll: select.poll | None = None  # for a pipe; a file is always ready, of gzip one cannot tell
        try:
            self._raw = self._file = Path(path).open("rb")  # noqa: SIM115 - until close()
        except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
            raise _unreadable(path, error) from error
        try:
            self._prepare()
            self._split = self._detect()
        except (OSError, CaptureError) as error:
            self.close()
            raise (_unreadable(path, error) if isinstance(error, OSError) else error) from None

    def read(self, timeout: float | None = None) -> list[Packet] | None:
        """The next packets; [] when none came within `timeout` seconds (None: wait); None at the end."""
        if not self._ended and not self._fill(timeout):
            return []
        if self._ended:
            return None
        packets: list[Packet] = []
        try:
            used, self._need = self._split(self._buffer, packets)
            self._buffer = self._buffer[used:]
        except _DAMAGE:
            self.damage, self._ended = DAMAGED, True
        return packets

    def close(self) -> None:
        """Close the file."""
        self._ended = True
        self._file.close()
        self._raw.close()

    def _prepare(self) -> None:
        if self._raw.peek(len(_GZIP)).startswith(_GZIP):
            self._file = cast("BufferedReader", gzip.GzipFile(fileobj=self._raw))
        elif not stat.S_ISREG(os.fstat(self._raw.fileno()).st_mode):
            self._poll = select.poll()
            self._poll.register(self._raw, select.POLLIN)
            self._buffer = self._raw.read1(_CHUNK)  # what the peek took in is not at the pipe any more

    def _detect(self) -> _Split:
        self._need = _PCAP_HEADER
        self._fill(None)
        head, self._need = self._buffer, 0
        if head.startswith(_SECTION) and head[8:12] in _BYTE_ORDERS:
            return _Pcapng().split
        if head[:4] in _PCAP and len(head) >= _PCAP_HEADER:
            self._buffer = head[_PCAP_HEADER:]
            return _Pcap(head).split
        if head.startswith(ESCAPE) and self._starts_dnstap():
            return _Dnstap().split
        unknown = f"it starts with the bytes {head[:4].hex()}" if head else "nothing can be read from it"
        reason = next((text for magic, text in _OTHERS.items() if head.startswith(magic)), unknown)
        raise CaptureError(self.path, f"no pcap, pcapng or dnstap file: {reason}")

    def _starts_dnstap(self) -> bool:
        self._need = len(_DNSTAP_HEADER)
        self._fill(None)
        self._need = 0
        return self._buffer.startswith(_DNSTAP_HEADER)

    def _fill(self, timeout: float | None) -> bool:
        """Read until the buffer holds what is needed, or to the end; False when that took too long."""
        parts, missing = [self._buffer], self._need - len(self._buffer)
        while missing > 0 and not self._ended:
            if self._poll and not self._poll.poll(None if timeout is None else timeout * 1000):
                break
            parts.append(self._more(missing))
            missing -= len(parts[-1])
        self._buffer = b"".join(parts)
        if self._ended and self._buffer:
            self.damage = self.damage or CUT_SHORT
        return missing <= 0 or self._ended

    def _more(self, size: int) -> bytes:
        """Some more bytes; b"" at the end."""
        data = b""
        try:
            data = self._file.read1(max(size, _CHUNK))
        except EOFError:
            self.damage = CUT_SHORT
        except (gzip.BadGzipFile, zlib.error):
            self.damage = DAMAGED
        except OSError as error:
            raise _unreadable(self.path, error) from error
        self._ended = not data
        return data


def _unreadable(path: str | Path, error: Exception) -> CaptureError:
    return CaptureError(path, f"cannot be read: {getattr(error, 'strerror', None) or error}")


class _Pcap:
    """The records of a pcap file (draft-ietf-opsawg-pcap, section 5)."""

    def __init__(self, header: bytes) -> None:
        order, self._unit, more = _PCAP[header[:4]]
        self._record = struct.Struct(f"{order}IIII{more}x")
        # The upper bits of the field tell of frame check sequences.
        self._linktype: int = struct.unpack_from(order + "I", header, 20)[0] & 0xFFFF

    def split(self, data: bytes, packets: list[Packet]) -> tuple[int, int]:
        unpack, size, unit, linktype = self._record.unpack_from, self._record.size, self._unit, self._linktype
        position, last = 0, len(data) - size
        while position <= last:
            seconds, fraction, length, _ = unpack(data, position)
            start = position + size
            stop = start + length
            if length > _LARGEST_RECORD:
                raise struct.error
            if stop > len(data):
                return position, stop - position
            packets.append((seconds * _SECOND + fraction * unit, linktype, data[start:stop]))
            position = stop
        return position, size


class _Interface:
    """What an interface description block tells (draft-ietf-opsawg-pcapng, section 4.2)."""

    def __init__(self, order: str, body: bytes) -> None:
        self.linktype, self.snaplen = struct.unpack_from(order + "HxxI", body)
        options = dict(_options(order, body))
        resolution = options.get(_IF_TSRESOL, b"\x06")[0]
        self._per_second: int = (2 if resolution & 0x80 else 10) ** (resolution & 0x7F)
        self._offset: int = struct.unpack(order + "q", options.get(_IF_TSOFFSET, bytes(8)))[0] * _SECOND

    def nanoseconds(self, high: int, low: int) -> int:
        """A time stamp, in units of the interface, as nanoseconds since the epoch."""
        return (high << 32 | low) * _SECOND // self._per_second + self._offset


def _options(order: str, body: bytes) -> Iterator[tuple[int, bytes]]:
    position = 8
    while position + 4 <= len(body):
        code, length = struct.unpack_from(order + "HH", body, position)
        yield code, body[position + 4 : position + 4 + length]
        position += 4 + (length + 3 & ~3)


class _Pcapng:
    """The blocks of a pcapng file (draft-ietf-opsawg-pcapng, section 4); unknown ones are skipped."""

    def __init__(self) -> None:
        self._time = 0
        self._start_section("<")

    def split(self, data: bytes, packets: list[Packet]) -> tuple[int, int]:
        position, last = 0, len(data) - _SMALLEST_BLOCK
        while position <= last:
            if data.startswith(_SECTION, position):
                self._start_section(_BYTE_ORDERS[data[position + 8 : position + 12]])
            kind, length = self._head.unpack_from(data, position)
            if not _SMALLEST_BLOCK <= length <= _LARGEST_BLOCK:
                raise struct.error
            stop = position + (length + 3 & ~3)  # some writers leave the padding out of the length
            if stop > len(data):
                return position, stop - position
            if data[position + 4 : position + 8] != data[stop - 4 : stop]:
                raise struct.error
            self._take(kind, data[position + 8 : stop - 4], packets)
            position = stop
        return position, _SMALLEST_BLOCK

    def _start_section(self, order: str) -> None:
        self._order = order
        self._interfaces: list[_Interface] = []
        self._head = struct.Struct(order + "II")
        self._packets = {_ENHANCED: struct.Struct(order + "5I"), _OBSOLETE: struct.Struct(order + "Hxx4I")}

    def _take(self, kind: int, body: bytes, packets: list[Packet]) -> None:
        if head := self._packets.get(kind):
            packets.append(self._packet(head, body))
        elif kind == _SIMPLE:
            packets.append(self._simple_packet(body))
        elif kind == _INTERFACE:
            if len(self._interfaces) >= _MOST_INTERFACES:
                raise IndexError("more interfaces than any file has")
            self._interfaces.append(_Interface(self._order, body))

    def _packet(self, head: struct.Struct, body: bytes) -> Packet:
        """An enhanced packet block, or the obsolete packet block."""
        number, high, low, length, _ = head.unpack_from(body)
        if length > len(body) - head.size:
            raise struct.error
        interface = self._interfaces[number]
        self._time = interface.nanoseconds(high, low)
        return self._time, interface.linktype, body[head.size : head.size + length]

    def _simple_packet(self, body: bytes) -> Packet:
        """A packet without a time stamp: it gets that of the one before it."""
        (length,) = struct.unpack_from(self._order + "I", body)
        interface = self._interfaces[0]
        return self._time, interface.linktype, body[4 : 4 + min(length, interface.snaplen or length)]


class _Dnstap:
    """The frames of a dnstap file."""

    def __init__(self) -> None:
        self._stream = FrameStream()

    def split(self, data: bytes, packets: list[Packet]) -> tuple[int, int]:
        frames: list[bytes] = []
        try:
            return self._stream.split(data, frames)
        finally:
            packets += [(0, DNSTAP, frame) for frame in frames]
