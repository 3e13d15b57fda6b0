from __future__ import annotations

from collections import Counter

import pytest

from dnstrail.captured import Captured, Flow, Process
from dnstrail_probe.packets import tcp_streams
from dnstrail_probe.packets.dns_over_tcp import DnsMessages
from dnstrail_probe.packets.tcp_header import TcpHeader
from dnstrail_probe.packets.tcp_streams import Streams

ACK, SYN, URGENT = 0x10, 0x02, 0x20
HONEST, HOSTILE = 5, 6
HALF = b"\0\x20" + bytes(14)


class Host:
    """The streams of a host, whose sockets send from two cgroups."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.evicted: Counter[int] = Counter()
        self.streams = Streams(
            self.counters, lambda seen: DnsMessages(self.counters, from_start=seen), evicted=self.evicted
        )

    def send(self, cgroup: int, socket: int, sequence: int, data: bytes, flags: int = ACK) -> list[bytes]:
        """Return the messages that a segment completes."""
        flow = Flow(b"\xc0\0\x02\x01", 4000, b"\xc0\0\x02\x35", 53, "tcp", socket, 1, egress=True)
        segment = Captured(0, data, flow, Process(pid=cgroup, cgroup_id=cgroup, owner=cgroup))
        return [message for _, message in self.streams.add(segment, flow, TcpHeader(sequence, 1, flags))]


@pytest.fixture
def host(monkeypatch) -> Host:
    """Return a host with small bounds, and a stream of the honest cgroup that holds half a message."""
    monkeypatch.setattr(tcp_streams, "MAX_STREAMS", 10)
    monkeypatch.setattr(tcp_streams, "MAX_BYTES", 10_000)
    host = Host()
    host.send(HONEST, 1, 0, HALF, SYN)
    return host


@pytest.mark.parametrize(("streams", "size"), [(50, 1), (5, 8_000)])
def test_the_owner_with_most_streams_or_bytes_gives_up_its_own(host, streams, size):
    """Beyond either bound the hostile cgroup loses its streams, which are counted; the honest one reads on."""
    for socket in range(2, 2 + streams):
        host.send(HOSTILE, socket, 0, b"\xff\xff" + bytes(size), SYN)
    assert host.send(HONEST, 1, 1 + len(HALF), bytes(18)) == [bytes(32)]
    assert set(host.evicted) == {HOSTILE}
    assert host.evicted.total() == host.counters["tcp_evicted"] > 0


def test_urgent_data_that_were_received_before_hide_nothing(host):
    """A segment from behind does not make a stream unreadable: its receiver drops it."""
    host.send(HONEST, 1, 2**32 - 5000, b"x", ACK | URGENT)
    assert host.send(HONEST, 1, 1 + len(HALF), bytes(18)) == [bytes(32)]
    assert host.send(HONEST, 1, 19 + len(HALF), b"x", ACK | URGENT) == []
    assert host.counters["tcp_not_read"] == 1
