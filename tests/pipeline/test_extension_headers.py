"""IPv6 packets with extension headers, sent to the real kernel from a raw socket in a network namespace."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.layers.ipsec import AH
from scapy.packet import Packet

from builders.dns_builders import response_to
from live.ebpf_source import Watching, cgroup, inside, watching
from live.namespaces import live_or_skip
from live.processes import PATIENCE

SEND = """
import socket, sys
raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
raw.sendto(bytes.fromhex(sys.argv[1]), ("::1", 0))
"""


def options(count: int) -> Packet:
    """Return an IPv6 header and so many extension headers with destination options."""
    packet = IPv6(src="::1", dst="::1")
    for _ in range(count):
        packet /= IPv6ExtHdrDestOpt()
    return packet


def send(packet: Packet, name: str, folder: Path | None = None) -> None:
    """Send a DNS message about a name behind these headers, from a cgroup if a folder is given."""
    frame = bytes(packet / UDP(sport=53, dport=4000) / response_to(name))
    script = 'ip link set lo up && exec "$@"'
    command = ["unshare", "--net", "sh", "-c", script, "sh", sys.executable, "-c", SEND, frame.hex()]
    if folder:
        command = inside(folder, *command)
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)


FOLLOWED = {
    "none": options(0),
    "eight": options(8),
    "an authentication header": options(1) / AH(icv=bytes(12), nh=17, payloadlen=4),
    "an atomic fragment": options(1) / IPv6ExtHdrFragment(offset=0, m=0),
}


@pytest.fixture(scope="module")
def watched() -> Iterator[Watching]:
    """Yield one source for all tests of this file."""
    live_or_skip("unshare")
    with watching() as found:
        yield found


@pytest.mark.parametrize("case", FOLLOWED)
def test_extension_headers_are_followed(watched, case):
    """A DNS message behind as many as eight extension headers is an event; AH is among them."""
    name = f"{case.replace(' ', '-')}.extension.test"
    send(FOLLOWED[case], name)
    watched.until(lambda: watched.about(name), "the message")
    assert not watched.source.counters["ipv6_too_many_extensions"]


def test_a_packet_with_too_many_extension_headers_is_lost_and_counted(watched):
    """A packet with nine extension headers is no event; it is counted as a loss of the kernel, and of its cgroup."""
    with cgroup(f"dnstrail{os.getpid()}-extensions") as folder:
        send(options(9), "nine.extension.test", folder)
        own = folder.stat().st_ino, 1

        def losses() -> set[tuple[int, int]]:  # others of this host may lose events before
            return {(loss.cgroup, loss.lost) for loss in watched.source.lost_by_cgroup}

        watched.until(lambda: own in losses(), "the loss")
    watched.until(lambda: watched.source.counters["ipv6_too_many_extensions"], "the counter")
    assert not watched.about("nine.extension.test")
    assert watched.source.losses["ipv6_too_many_extensions"] == "kernel"
