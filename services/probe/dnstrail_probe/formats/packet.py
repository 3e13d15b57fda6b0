"""One packet of a capture file, and how a format is read."""

from __future__ import annotations

import struct
from typing import Protocol

Packet = tuple[int, int, bytes]  # nanoseconds since the epoch, link type, frame
DNSTAP = -1  # the link type of a dnstap frame, which states its time itself
NANOSECONDS = 10**9  # of a second
DAMAGE = (struct.error, LookupError)  # the errors of `Format.split`: the next bytes are no record


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
        ...
