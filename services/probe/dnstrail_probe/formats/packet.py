"""One packet of a capture file."""

from __future__ import annotations

Packet = tuple[int, int, bytes]  # nanoseconds since the epoch, link type, frame
DNSTAP = -1  # the link type of a dnstap frame, which holds its time itself
