"""Segments of an open socket whose start was not seen: their distance from the next byte that it expects decides."""

from __future__ import annotations

from collections import Counter

import pytest

from builders.dns_builders import response_to
from dnstrail.captured import Captured, Flow
from dnstrail_probe.packets.dns_over_tcp import DnsMessages
from dnstrail_probe.packets.tcp_direction import WINDOW
from dnstrail_probe.packets.tcp_header import TcpHeader
from dnstrail_probe.packets.tcp_streams import PATIENCE, Streams

FLOW = Flow(b"\xc0\0\x02\x01", 4000, b"\xc0\0\x02\x35", 53, "tcp", 77, 1)
EXPECTED = 2**32 - 20  # the numbers of the stream wrap around
ACK, SYN = 0x10, 0x02
TRUE, FORGED = (len(wire).to_bytes(2) + wire for wire in map(response_to, ("true.test", "forged.test")))


class Socket:
    """The streams of one open socket, and the next byte that it expects."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.streams = Streams(self.counters, lambda seen: DnsMessages(self.counters, from_start=seen))
        self.expected = EXPECTED

    def arrive(self, distance: int, data: bytes, flags: int = ACK, now: int = 0) -> list[bytes]:
        """Return the messages that a segment completes; the next byte advances if the kernel takes it."""
        header = TcpHeader((self.expected + distance) % 2**32, 1, flags, distance=distance)
        found = self.streams.add(Captured(now, data, FLOW), FLOW, header)
        if distance == 0:
            self.expected += len(data)
        return [message for _, message in found]


@pytest.mark.parametrize("distance", [1, 64_000, WINDOW - 1, -len(FORGED), -64_000, WINDOW, -WINDOW - 1, 2**30])
def test_a_forged_first_segment_precedes_no_true_one(distance):
    """The segment that the socket expects is read first; one ahead waits, and one behind was received before."""
    socket = Socket()
    assert socket.arrive(distance, FORGED) == []
    assert socket.arrive(0, TRUE) == [TRUE[2:]]
    near = -WINDOW <= distance < WINDOW
    assert socket.counters["tcp_out_of_window"] == (not near)


def test_an_open_socket_takes_no_syn():
    """A SYN in an open connection begins nothing, before or after its first segment."""
    socket = Socket()
    assert socket.arrive(-1, FORGED, SYN) == []
    assert socket.arrive(0, TRUE) == [TRUE[2:]]
    assert socket.arrive(WINDOW * 2, FORGED, SYN, now=10**12) == []
    assert socket.arrive(0, TRUE, now=10**12) == [TRUE[2:]]
    assert socket.counters["tcp_out_of_window"] == 2


def test_a_stream_continues_after_lost_segments():
    """If more than a window was lost, the segment that the socket expects begins the stream anew; others do not."""
    socket = Socket()
    assert socket.arrive(0, TRUE) == [TRUE[2:]]
    socket.expected += 2 * WINDOW
    assert socket.arrive(5, FORGED) == []
    assert socket.arrive(0, TRUE) == [TRUE[2:]]


def test_a_segment_after_a_lost_one_waits_for_it():
    """A gap before the first segment that was seen is given up like any other."""
    socket = Socket()
    assert socket.arrive(100, TRUE) == []
    assert [message for _, message in socket.streams.expire(PATIENCE + 1)] == [TRUE[2:]]
    assert socket.counters["tcp_gap"] == 1
