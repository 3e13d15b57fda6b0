"""The header of a TCP segment (RFC 9293, section 3.1), with its window scale (RFC 7323, section 2)."""

from __future__ import annotations

import struct

import msgspec

_HEADER = struct.Struct("!4xIIBBH4x")
_FIN, _SYN, _RST, _ACK, _URG = 0x01, 0x02, 0x04, 0x10, 0x20
_END_OF_OPTIONS, _PADDING, _WINDOW_SCALE = 0, 1, 3
_LARGEST_SCALE = 14
_MODULUS = 1 << 32


class TcpHeader(msgspec.Struct, frozen=True, gc=False):
    """The fields of one header that decide what its receiver takes."""

    sequence: int
    acknowledged: int = 0  # the next byte that the sender expects; without meaning if `ack` is false
    flags: int = 0
    window: int = 0  # before scaling
    scale: int | None = None  # the option of a SYN; None: not offered
    distance: int | None = None  # from the next byte that the receiving socket expects; None: unknown

    @property
    def syn(self) -> bool:
        """True for the first segment of a direction."""
        return bool(self.flags & _SYN)

    @property
    def ack(self) -> bool:
        """True if the segment acknowledges bytes."""
        return bool(self.flags & _ACK)

    @property
    def fin(self) -> bool:
        """True for the last segment of a direction."""
        return bool(self.flags & _FIN)

    @property
    def reset(self) -> bool:
        """True for a segment that ends the connection."""
        return bool(self.flags & _RST)

    @property
    def urgent(self) -> bool:
        """True if a byte from here on is urgent: most programs do not read it with the others."""
        return bool(self.flags & _URG)

    @property
    def first(self) -> int:
        """The sequence number of the first byte of data; a SYN takes one number itself."""
        return (self.sequence + self.syn) % _MODULUS

    @property
    def expected(self) -> int:
        """The sequence number of the next byte that the receiver expects; `first` if it is unknown."""
        return (self.first - (self.distance or 0)) % _MODULUS


def read_tcp(data: bytes, distance: int | None = None) -> tuple[TcpHeader, bytes] | str:
    """Return the header and the payload of a segment, or the reason why it has none."""
    if len(data) < _HEADER.size:
        return "header_cut"
    sequence, acknowledged, words, flags, window = _HEADER.unpack_from(data)
    size = (words >> 4) * 4
    if size < _HEADER.size:
        return "bad_header"
    scale = _window_scale(data[_HEADER.size : size]) if flags & _SYN else None
    return TcpHeader(sequence, acknowledged, flags, window, scale, distance), data[size:]


def _window_scale(options: bytes) -> int | None:
    at = 0
    while at + 2 < len(options) and options[at] != _END_OF_OPTIONS:
        if options[at] == _WINDOW_SCALE:
            return min(options[at + 2], _LARGEST_SCALE)
        at += 1 if options[at] == _PADDING else max(options[at + 1], 2)
    return None
