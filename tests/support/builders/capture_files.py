"""Capture files built field by field: pcap, and the blocks of pcapng."""

from __future__ import annotations

import struct
from ipaddress import ip_address

RAW_IPV4 = 228  # a link type
MICRO, NANO, MODIFIED = 0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34


def pcap(*records: tuple[int, int, bytes], order: str = "<", magic: int = MICRO, linktype: int = 1) -> bytes:
    """Return a pcap file; a record is (seconds, fraction, frame)."""
    extra = bytes(8) if magic == MODIFIED else b""
    head = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, linktype)
    return head + b"".join(
        struct.pack(order + "IIII", seconds, fraction, len(frame), len(frame)) + extra + frame
        for seconds, fraction, frame in records
    )


def udp(source: tuple[str, int], destination: tuple[str, int], payload: bytes) -> bytes:
    """Return a UDP packet over IPv4, without checksums and without a link header."""
    segment = struct.pack("!4H", source[1], destination[1], 8 + len(payload), 0) + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0, 64, 17, 0)
    return head + ip_address(source[0]).packed + ip_address(destination[0]).packed + segment


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    """Return a pcapng block, padded."""
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + size + body + size


def section(order: str = "<") -> bytes:
    """Return a section header block."""
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    """Return an option of a block."""
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def interface(linktype: int = 1, options: bytes = b"", order: str = "<", snaplen: int = 0) -> bytes:
    """Return an interface description block."""
    return block(1, struct.pack(order + "HHI", linktype, 0, snaplen) + options, order)


def enhanced(ticks: int, frame: bytes, number: int = 0, order: str = "<") -> bytes:
    """Return an enhanced packet block; `number` is its interface."""
    head = struct.pack(order + "IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame))
    return block(6, head + frame, order)


def obsolete(ticks: int, frame: bytes, number: int = 0, order: str = "<") -> bytes:
    """Return an obsolete packet block; `number` is its interface."""
    head = struct.pack(order + "HHIIII", number, 3, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame))
    return block(2, head + frame, order)


def simple(length: int, frame: bytes) -> bytes:
    """Return a simple packet block."""
    return block(3, struct.pack("<I", length) + frame)
