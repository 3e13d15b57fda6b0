"""TCP segments that root makes by hand: of any content and order, in the name of any host."""

from __future__ import annotations

import socket
import struct

_REPAIR, _QUEUE, _SEQUENCE = 19, 20, 21  # of TCP; root reads the sequence numbers by them
_RECEIVED, _SENT = 1, 2
_FLAGS = 0x18  # PSH and ACK
_WINDOW = 1024
End = tuple[str, int]


def sequences(connected: socket.socket) -> tuple[int, int]:
    """Return the sequence numbers of the next byte that a connection sends, and of the next one that it receives."""
    connected.setsockopt(socket.IPPROTO_TCP, _REPAIR, 1)
    found = []
    for queue in (_SENT, _RECEIVED):
        connected.setsockopt(socket.IPPROTO_TCP, _QUEUE, queue)
        found.append(connected.getsockopt(socket.IPPROTO_TCP, _SEQUENCE) & 0xFFFFFFFF)
    connected.setsockopt(socket.IPPROTO_TCP, _REPAIR, -1)
    return found[0], found[1]


def send_segment(source: End, target: End, sequence: int, acknowledged: int, data: bytes) -> None:
    """Send one segment over IPv4."""
    ends = socket.inet_aton(source[0]) + socket.inet_aton(target[0])
    numbers = source[1], target[1], sequence % 2**32, acknowledged
    head = struct.pack("!HHIIBBHHH", *numbers, 5 << 4, _FLAGS, _WINDOW, 0, 0)
    summed = _sum(ends + struct.pack("!HH", socket.IPPROTO_TCP, len(head) + len(data)) + head + data)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 0, 0, 0, 64, socket.IPPROTO_TCP, 0)  # the kernel adds lengths and sums
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.sendto(ip + ends + head[:16] + struct.pack("!HH", summed, 0) + data, (target[0], 0))


def _sum(text: bytes) -> int:
    words = text + bytes(len(text) % 2)
    total = sum(struct.unpack(f"!{len(words) // 2}H", words))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
