"""pcap and pcapng files, split into packets (draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng).

The readers are our own: dpkt and python-pcapng each fail on a capture of the corpus, and dpkt is 3.4 times slower.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Protocol

_SECTION = b"\x0a\x0d\x0d\x0a"
_BYTE_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_INTERFACE, _OBSOLETE, _SIMPLE, _ENHANCED = 1, 2, 3, 6  # block types
_END_OF_OPTIONS, _IF_TSRESOL, _IF_TSOFFSET = 0, 9, 14  # options of an interface
_MICROSECONDS = b"\x06"  # the resolution of an interface without that option
_SMALLEST_BLOCK = 12  # bytes
_LARGEST_BLOCK = 1 << 24  #: bytes of a block of a pcapng file -> the file counts as damaged
_MOST_INTERFACES = 1 << 16  #: interfaces of a pcapng section -> the file counts as damaged
Packet = tuple[int, int, bytes]  # nanoseconds since the epoch, link type, frame
DNSTAP = -1  # the link type of a dnstap frame, which states its time itself
NANOSECONDS = 10**9  # of a second
DAMAGE = (struct.error, LookupError)  # the errors of `Format.split`: the next bytes are no record
HEADER = 24  # bytes
#: bytes of a record of a pcap file -> the file counts as damaged
_LARGEST_RECORD = 1 << 18  # libpcap's own limit, and the only check of sanity that the format allows
# First bytes of a file -> byte order, nanoseconds in one unit of its fractions, extra bytes of each record header.
MAGICS = {
    struct.pack(order + "I", magic): (order, unit, extra)
    for order in "<>"
    for magic, unit, extra in ((0xA1B2C3D4, 1000, 0), (0xA1B23C4D, 1, 0), (0xA1B2CD34, 1000, 8))
}


class Format(Protocol):
    """The records of one format, split from a stream of bytes.

    Invariant: `split` consumes only complete records, in their order.
    """

    def split(self, data: bytes, packets: list[Packet]) -> tuple[int, int]:
        """Append the packets that are complete at the start of the data.

        Return the number of bytes used, and the number of bytes that the next record needs to be complete.

        Raises:
            struct.error, LookupError: the next bytes are no record. The packets before it are appended.
        """


class Pcap:
    """The records of a pcap file with this header (section 5)."""

    def __init__(self, header: bytes) -> None:
        order, self._unit, extra = MAGICS[header[:4]]
        self._record = struct.Struct(f"{order}IIII{extra}x")
        # The upper 16 bits describe frame check sequences.
        self._linktype: int = struct.unpack_from(order + "I", header, 20)[0] & 0xFFFF

    def split(self, data: bytes, packets: list[Packet]) -> tuple[int, int]:
        """Append the complete packets (see Format)."""
        unpack, size, unit, linktype = self._record.unpack_from, self._record.size, self._unit, self._linktype
        position, last = 0, len(data) - size
        while position <= last:
            seconds, fraction, length, _ = unpack(data, position)
            start = position + size
            stop = start + length
            if length > _LARGEST_RECORD:
                raise struct.error("a record that is too large")
            if stop > len(data):
                return position, stop - position
            packets.append((seconds * NANOSECONDS + fraction * unit, linktype, data[start:stop]))
            position = stop
        return position, size


def is_pcapng(head: bytes) -> bool:
    """Return whether a file that begins with these bytes is a pcapng file."""
    return head.startswith(_SECTION) and head[8:12] in _BYTE_ORDERS


class Pcapng:
    """The blocks of a pcapng file (section 4). Blocks of unknown types are skipped.

    Invariant: the byte order and the interfaces are those of the current section.
    """

    def __init__(self) -> None:
        self._time = 0  # ns: of the last packet with a time stamp
        self._start_section("<")

    def split(self, data: bytes, packets: list[Packet]) -> tuple[int, int]:
        """Append the complete packets (see Format)."""
        position, last = 0, len(data) - _SMALLEST_BLOCK
        while position <= last:
            if data.startswith(_SECTION, position):
                self._start_section(_BYTE_ORDERS[data[position + 8 : position + 12]])
            kind, length = self._head.unpack_from(data, position)
            if not _SMALLEST_BLOCK <= length <= _LARGEST_BLOCK:
                raise struct.error("a block of impossible length")
            stop = position + (length + 3 & ~3)  # some writers leave the padding out of the length
            if stop > len(data):
                return position, stop - position
            if data[position + 4 : position + 8] != data[stop - 4 : stop]:
                raise struct.error("the two lengths of a block differ")
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
        """Read an enhanced packet block, or an obsolete packet block."""
        number, high, low, length, _ = head.unpack_from(body)
        if length > len(body) - head.size:
            raise struct.error("a packet that is larger than its block")
        interface = self._interfaces[number]
        self._time = interface.nanoseconds(high, low)
        return self._time, interface.linktype, body[head.size : head.size + length]

    def _simple_packet(self, body: bytes) -> Packet:
        """Read a simple packet block. It has no time stamp, so the packet gets the time of the one before it."""
        (length,) = struct.unpack_from(self._order + "I", body)
        interface = self._interfaces[0]
        return self._time, interface.linktype, body[4 : 4 + min(length, interface.snaplen or length)]


class _Interface:
    """The link type, snapshot length and clock of an interface description block (section 4.2)."""

    def __init__(self, order: str, body: bytes) -> None:
        self.linktype, self.snaplen = struct.unpack_from(order + "HxxI", body)
        options = dict(_options(order, body))
        resolution = options.get(_IF_TSRESOL, _MICROSECONDS)[0]
        self._per_second: int = (2 if resolution & 0x80 else 10) ** (resolution & 0x7F)
        self._offset: int = struct.unpack(order + "q", options.get(_IF_TSOFFSET, bytes(8)))[0] * NANOSECONDS

    def nanoseconds(self, high: int, low: int) -> int:
        """Return a time stamp, given in units of the interface, as nanoseconds since the epoch, rounded down."""
        return (high << 32 | low) * NANOSECONDS // self._per_second + self._offset


def _options(order: str, body: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the options of an interface as code and value."""
    position = 8
    while position + 4 <= len(body):
        code, length = struct.unpack_from(order + "HH", body, position)
        if code == _END_OF_OPTIONS:
            return
        yield code, body[position + 4 : position + 4 + length]
        position += 4 + (length + 3 & ~3)
