from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from dnstrail.capture_options import CaptureOptions
from dnstrail.captured import Captured
from dnstrail.events import NET_SERVER_NAME
from dnstrail.process.clock import StreamClock
from dnstrail_probe.ebpf.source import EbpfSource
from live.namespaces import SERVER
from live.processes import wait_until

BOUND = 262_144  # bytes of one socket: INITIALS in dns.bpf.c
CLIENT = """
import socket, sys
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
address, connected, *names = sys.argv[1:]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    if connected == "connected":
        sender.connect((address, 8443))
    for name in names:
        client = QuicConnection(configuration=QuicConfiguration(is_client=True, server_name=name))
        client.connect((address, 8443), now=0.0)
        for data, to in client.datagrams_to_send(now=0.0):
            sender.send(data) if connected == "connected" else sender.sendto(data, to)
"""
FLOOD = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    for _ in range(300):
        sender.sendto(b"\\xc0\\0\\0\\0\\1".ljust(1200, b"x"), (sys.argv[1], 8443))
"""


@pytest.fixture
def source() -> Iterator[EbpfSource]:
    opened = EbpfSource(CaptureOptions(server_names=True), StreamClock())
    yield opened
    opened.close()


def names_of(source: EbpfSource) -> list[Captured]:
    """Return the server names of this test that have arrived: other programs of this host state names, too."""
    found = [event for topic, event in source.read(0.01) or [] if topic == NET_SERVER_NAME]
    return [event for event in found if (event.flow.destination_text, event.flow.destination_port) == (SERVER, 8443)]


def test_ebpf_sees_the_names_of_quic_clients(network, source):
    """The name is reported with its process and socket, whether the socket is connected or not."""
    seen: list[Captured] = []

    def all_seen() -> bool:
        seen.extend(names_of(source))
        return len(seen) == 3

    network.on_client(sys.executable, "-c", CLIENT, SERVER, "connected", "one.example")
    network.on_client(sys.executable, "-c", CLIENT, SERVER, "unconnected", "two.example", "three.example")
    wait_until(all_seen, "three server names")
    assert [event.args["server_name"] for event in seen] == ["one.example", "two.example", "three.example"]
    assert all(event.flow.socket and event.process.name.startswith("python") for event in seen)
    assert seen[0].flow.socket != seen[1].flow.socket == seen[2].flow.socket


def test_one_socket_cannot_send_endless_first_datagrams(network, source):
    """The kernel passes on a bounded number of bytes of one socket, so that the next client is seen."""
    network.on_client(sys.executable, "-c", FLOOD, SERVER)
    network.on_client(sys.executable, "-c", CLIENT, SERVER, "connected", "after.example")
    wait_until(lambda: names_of(source), "the name after the flood")
    assert 0 < source.counters["quic_undecryptable"] <= BOUND // 1200 + 1
