"""pcapng files: sections of blocks, with several interfaces (draft-ietf-opsawg-pcapng).

The reader is our own, as that of pcap: dpkt and python-pcapng each fail on a capture of the corpus.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from dnstrail_probe.formats.packet import NANOSECONDS, Packet

_SECTION = b"\x0a\x0d\x0d\x0a"
_BYTE_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_INTERFACE, _OBSOLETE, _SIMPLE, _ENHANCED = 1, 2, 3, 6  # block types
_END_OF_OPTIONS, _IF_TSRESOL, _IF_TSOFFSET = 0, 9, 14  # options of an interface
_MICROSECONDS = b"\x06"  # the resolution of an interface without that option
_SMALLEST_BLOCK = 12  # bytes
#: bytes of a block of a pcapng file -> the file counts as damaged
_LARGEST_BLOCK = 1 << 24
_MOST_INTERFACES = 1 << 16  #: interfaces of a pcapng section -> the file counts as damaged


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
