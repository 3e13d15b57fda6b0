"""The kernel passes the datagrams of one call as one packet (udp(7): UDP_SEGMENT, UDP_GRO)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from builders.dns_builders import response_to
from live.ebpf_source import watching
from live.namespaces import live_or_skip
from live.processes import PATIENCE

SEND = """
import socket, sys
gathers, size, payload = int(sys.argv[1]), int(sys.argv[2]), bytes.fromhex(sys.argv[3])
receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.bind(("127.0.0.1", 5300))
receiver.settimeout(10)
if gathers:
    receiver.setsockopt(socket.IPPROTO_UDP, 104, 1)  # UDP_GRO
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.bind(("127.0.0.1", 53))
sender.setsockopt(socket.IPPROTO_UDP, 103, size)  # UDP_SEGMENT
sender.sendto(payload, receiver.getsockname())
received = []
while sum(map(len, received)) < len(payload):
    received.append(receiver.recv(65536))
print(len(received))
"""


@pytest.mark.parametrize(("gathers", "received"), [(0, "3"), (1, "1")], ids=["one by one", "gathered"])
def test_each_datagram_is_an_event(gathers, received):
    """Each datagram of a call is an event at the sender, and at a receiver that takes them one by one or gathered."""
    live_or_skip("unshare")
    messages = [response_to(f"{letter}.segment.test") for letter in "abc"]
    script = 'ip link set lo up && exec "$@"'
    send = [sys.executable, "-c", SEND, str(gathers), str(len(messages[0])), b"".join(messages).hex()]
    with watching() as watched:
        command = ["unshare", "--net", "sh", "-c", script, "sh", *send]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.stdout.strip() == received, done.stderr
        for letter in "abc":
            watched.until(lambda name=f"{letter}.segment.test": len(watched.about(name)) >= 2, f"{letter} at both ends")
    for letter, message in zip("abc", messages, strict=True):
        events = watched.about(f"{letter}.segment.test")
        assert sorted((event.flow.egress, event.payload) for event in events) == [(False, message), (True, message)]
