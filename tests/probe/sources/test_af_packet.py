"""The AF_PACKET source on the loopback: the packets that wait for it, and the count of those that found no room."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from dnstrail.capture_options import CaptureOptions
from dnstrail.errors import SourceUnavailable
from dnstrail.process.clock import StreamClock
from dnstrail_probe.source import Captures
from dnstrail_probe.sources import af_packet
from dnstrail_probe.sources.af_packet import BUFFER, AfPacketSource, attach_filter
from live.ports import free_port
from live.workers import SteppedClock, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="an AF_PACKET socket needs CAP_NET_RAW")
PORT = free_port("127.0.0.1", 2)  # no other test sends there


@pytest.fixture
def source():
    """Yield a source that captures one port."""
    opened = AfPacketSource(CaptureOptions(frozenset({PORT})), StreamClock())
    yield opened
    opened.close()


def captured(source: AfPacketSource, sent: int) -> int:
    """Send datagrams to the loopback while nobody reads, and return how many the source then reads."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(sent):
            sender.sendto(bytes(12), ("127.0.0.1", PORT))
    found: Captures = []

    def all_counted() -> bool:
        found.extend(source.read(0.05) or ())
        return source.counters["packets"] + source.counters["socket_full"] >= 2 * sent  # once outgoing, once incoming

    wait_until(all_counted, "all packets, read or lost")
    return len(found)


def test_a_burst_waits_in_the_buffer(source):
    """2,000 packets that arrive between two reads are all captured."""
    assert (captured(source, 2000), source.counters["socket_full"]) == (2000, 0)


def test_packets_beyond_the_buffer_are_counted(monkeypatch):
    """Packets that find the buffer full are counted as socket_full: none is lost in silence."""
    monkeypatch.setattr(af_packet, "BUFFER", 1 << 12)
    source = AfPacketSource(CaptureOptions(frozenset({PORT})), StreamClock())
    found = captured(source, 200)
    assert 0 < found < 200
    assert source.counters["packets"] + source.counters["socket_full"] == 2 * 200  # once outgoing, once incoming
    source.close()


def test_a_packet_of_another_port_is_never_counted(monkeypatch):
    """What the host sends while the source opens its socket, before the filter is attached, does not enter it."""

    def send_first(packets: socket.socket, program: bytes) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(bytes(12), ("127.0.0.1", PORT + 1))
        attach_filter(packets, program)

    monkeypatch.setattr(af_packet, "attach_filter", send_first)
    source = AfPacketSource(CaptureOptions(frozenset({PORT})), StreamClock())
    assert (captured(source, 1), source.counters["packets"]) == (1, 2)
    source.close()


def test_the_buffer_may_exceed_the_limit_of_the_host(source):
    """With CAP_NET_ADMIN the buffer has its full size, whatever net.core.rmem_max is; the kernel doubles the number."""
    assert source._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * BUFFER


def refuse(*_arguments: object) -> None:
    """Refuse, as the kernel does without memory."""
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


@pytest.mark.parametrize("step", ["_enlarge_buffer", "attach_filter", "_bind_to_all_interfaces"])
def test_a_socket_that_cannot_be_set_up_is_no_source(monkeypatch, step):
    """If the kernel refuses the buffer, the filter or the bind, the source is unavailable, and its socket is closed."""
    monkeypatch.setattr(af_packet, step, refuse)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(SourceUnavailable, match="Cannot allocate memory"):
        AfPacketSource(CaptureOptions(frozenset({PORT})), StreamClock())
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("step", [3600, -3600])
@pytest.mark.parametrize("waits", [True, False], ids=["packets of before", "packets of after"])
def test_a_step_of_the_wall_clock_moves_no_packet(step, waits):
    """Packets that the kernel stamped before or after a step of the wall clock have their time of the stream."""
    host = SteppedClock()
    host.step = 0 if waits else -step  # the kernel stamps with the clock of the host, which no test may set
    clock = StreamClock(host)
    source = AfPacketSource(CaptureOptions(frozenset({PORT})), clock)
    clock.difference()
    before = clock.now()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(bytes(12), ("127.0.0.1", PORT))
    host.step += step
    [(_, event)] = source.read(1)
    assert before - 10**9 <= event.timestamp <= clock.now()  # the step is an hour
    source.close()


def test_a_packet_is_never_later_than_now():
    """A packet that waited over two steps back of the wall clock has the time at which it is read."""
    clock = StreamClock(host := SteppedClock())
    source = AfPacketSource(CaptureOptions(frozenset({PORT})), clock)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(bytes(12), ("127.0.0.1", PORT))
    for step in (-3600, -7200):
        host.step = step
        clock.difference()
    before = clock.now()
    [(_, event)] = source.read(1)
    assert before <= event.timestamp <= clock.now()
    source.close()
