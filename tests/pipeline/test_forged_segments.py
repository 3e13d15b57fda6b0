"""An answer in a forged TCP segment never replaces the true one: over a file, and against the real kernel."""

from __future__ import annotations

import json
import subprocess
import sys

import dns.message
from scapy.layers.inet import IP, TCP

from builders.capture_files import pcap
from builders.dns_builders import response_to
from dnstrail.events import NET_PACKET_DNS
from live.ebpf_source import watching
from live.namespaces import SERVER
from live.processes import PATIENCE, dnstrail

RAW = 101
QUERY = dns.message.make_query("shop.test", "A")
QUERY.id = 7


def answer(address: str) -> bytes:
    """Return an answer to the query, with its length in front."""
    response = dns.message.make_response(QUERY)
    response.answer.append(dns.rrset.from_text("shop.test.", 60, "IN", "A", address))
    wire = response.to_wire()
    return len(wire).to_bytes(2) + wire


def test_a_forged_answer_is_not_believed(tmp_path):
    """With unmatched=reject the true answer is in the image, and the answer in a segment far off is not."""
    client, server = {"src": "10.0.0.1", "dst": "10.0.0.53"}, {"src": "10.0.0.53", "dst": "10.0.0.1"}
    wire = QUERY.to_wire()

    def sent(seq: int, ack: int, flags: str, data: bytes = b"") -> bytes:
        return bytes(IP(**client) / TCP(sport=4000, dport=53, seq=seq, ack=ack, flags=flags, window=64000) / data)

    def received(seq: int, ack: int, flags: str, data: bytes = b"") -> bytes:
        return bytes(IP(**server) / TCP(sport=53, dport=4000, seq=seq, ack=ack, flags=flags, window=64000) / data)

    frames = [
        sent(100, 0, "S"),
        received(500, 101, "SA"),
        sent(101, 501, "A"),
        sent(101, 501, "PA", len(wire).to_bytes(2) + wire),
        received(501 + 2**30, 101, "PA", answer("192.0.2.66")),
        received(501, 101, "PA", answer("192.0.2.1")),
    ]
    capture = tmp_path / "forged.pcap"
    capture.write_bytes(pcap(*((1_700_000_000, place, one) for place, one in enumerate(frames)), linktype=RAW))
    done = dnstrail(
        "get", "--capture", capture, "--dnscache", "unmatched=reject", "--at", "1700000001", "--json", "shop.test"
    )
    assert json.loads(done.stdout)["ip_addresses"] == ["192.0.2.1"], done.stdout + done.stderr


SERVE = """
import socket, sys
true, forged = (bytes.fromhex(text) for text in sys.argv[2:4])
from scapy.layers.inet import IP, TCP
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
server = socket.create_server((sys.argv[1], 5300))
print("listens", flush=True)
connection, (client, port) = server.accept()
connection.recv(65536)
for place in range(8):  # at most one of them can lie in the window
    tcp = TCP(sport=5300, dport=port, seq=place << 29, ack=1, flags="PA", window=64000)
    raw.sendto(bytes(IP(src=sys.argv[1], dst=client) / tcp / forged), (client, 0))
connection.sendall(true)
connection.recv(1)
"""
ASK = """
import socket, sys
with socket.create_connection((sys.argv[1], 5300)) as server:
    server.sendall(bytes.fromhex(sys.argv[2]))
    print(server.recv(65536).hex())
"""


def test_a_segment_that_the_kernel_drops_is_no_event(network):
    """Answers that a raw socket forges into an open connection are counted; the true answer is reported."""
    true, forged, query = response_to("true.test"), response_to("forged.test"), QUERY.to_wire()
    wires = [(len(wire).to_bytes(2) + wire).hex() for wire in (true, forged, query)]
    with watching(frozenset({5300})) as watched:
        command = ["ip", "netns", "exec", network.server, sys.executable, "-c", SERVE, SERVER, *wires[:2]]
        serving = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            assert serving.stdout.readline() == "listens\n", serving.stdout.read()
            done = network.on_client(sys.executable, "-c", ASK, SERVER, wires[2])
            assert done.stdout.strip() == wires[0], done.stderr
            watched.until(lambda: len(watched.about("true.test")) >= 2, "the true answer at both ends")
            watched.until(
                lambda: watched.source.counters["tcp_out_of_window"] >= 7, "the forged segments in the counter"
            )
        finally:
            serving.terminate()
            serving.communicate(timeout=PATIENCE)
    received = [event.payload for event in watched.named(NET_PACKET_DNS) if not event.flow.egress]
    assert received.count(forged) == 0
    assert received.count(true) == 1


ASK_FORGED = """
import socket, sys
from scapy.layers.inet import IP, TCP
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
with socket.create_connection((sys.argv[1], 5300)) as server:
    client, port = server.getsockname()
    for place in range(8):
        tcp = TCP(sport=port, dport=5300, seq=place << 29, ack=1, flags="PA", window=64000)
        raw.sendto(bytes(IP(src=client, dst=sys.argv[1]) / tcp / bytes.fromhex(sys.argv[3])), (sys.argv[1], 0))
    server.sendall(bytes.fromhex(sys.argv[2]))
    print(server.recv(65536).hex())
"""


def test_a_forged_first_segment_does_not_hide_the_query(network):
    """At the server, whose socket has seen no SYN, the query is reported, and forged segments before it are not."""
    true, forged, query = response_to("true.test"), response_to("forged.test"), QUERY.to_wire()
    wires = [(len(wire).to_bytes(2) + wire).hex() for wire in (true, forged, query)]
    with watching(frozenset({5300})) as watched:
        command = ["ip", "netns", "exec", network.server, sys.executable, "-c", SERVE, SERVER, wires[0], ""]
        serving = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            assert serving.stdout.readline() == "listens\n", serving.stdout.read()
            done = network.on_client(sys.executable, "-c", ASK_FORGED, SERVER, wires[2], wires[1])
            assert done.stdout.strip() == wires[0], done.stderr
            watched.until(lambda: len(watched.about("true.test")) >= 2, "the answer at both ends")
        finally:
            serving.terminate()
            serving.communicate(timeout=PATIENCE)
    received = [event.payload for event in watched.named(NET_PACKET_DNS) if not event.flow.egress]
    own = [payload for payload in received if payload in (query, true, forged)]  # others of this host use the port, too
    assert own == [query, true]
