"""The bytes of TCP connections on the real kernel, beside what a real server received and sent."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnstrail.captured import Captured
from dnstrail.events import NET_TCP_CLOSE, NET_TCP_CONNECT_RESULT, SCHED_PROCESS_EXIT
from dnstrail_probe.ebpf.btf import Btf
from live.ebpf_source import Watching, watching
from live.namespaces import SERVER, SERVER6, Hosts
from live.processes import PATIENCE, run_dir, wait_until
from live.server_process import serving

PORT = 80
# Reads a line: the bytes to be sent, and the way to end. Prints for each connection the bytes received and sent.
SERVES = """
import json, socket, struct
server = socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    connection, _ = server.accept()
    received = b""
    while b"\\n" not in received:
        received += connection.recv(65536) or b"0 ended\\n"
    size, end = received.partition(b"\\n")[0].decode().split()
    count = len(received)
    connection.sendall(bytes(int(size)))
    if end == "reset":
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        count += 1
    elif end == "server":
        connection.shutdown(socket.SHUT_WR)
    try:
        while end != "reset" and (more := connection.recv(65536)):
            count += len(more)
    except ConnectionResetError:
        pass
    connection.close()
    print(json.dumps([count, int(size)]), flush=True)
"""
# Sends a line and further bytes, reads what the server sends, and ends.
CLIENT = """
import socket, sys, time
address, more, size, end = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
sock = socket.create_connection((address, 80))
if end == "repeat":
    print("connected", flush=True)
    sys.stdin.readline()
sock.sendall(f"{size} {end}\\n".encode() + bytes(more))
while end == "repeat" and not sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[100]:  # tcpi_total_retrans
    time.sleep(0.02)
if end == "repeat":
    print("repeated", flush=True)
left = size - (end == "unread")
while left:
    left -= len(sock.recv(left)) or sys.exit("the server ended early")
if end == "reset":
    sock.sendall(b".")
while end in ("server", "reset"):
    try:
        if not sock.recv(1):
            break
    except ConnectionResetError:
        break
sock.close()
"""
# Bytes after the line, bytes of the server, and the end: "client" and "server" close first; "reset": the server resets;
# "unread": the client closes before it has read all, which resets.
TALKS = [
    (0, 0, "client"),
    (10, 100, "client"),
    (10, 100, "server"),
    (300_000, 2_000_000, "client"),
    (2_000_000, 300_000, "server"),
    (10, 100, "reset"),
    (10, 100, "unread"),
]


@pytest.fixture(scope="module")
def counted(network: Hosts) -> Iterator[Path]:
    """Yield the file of what the server counted."""
    with run_dir() as folder, serving(network, folder / "seen", sys.executable, "-c", SERVES) as seen:
        yield seen


@pytest.fixture(scope="module")
def seen(counted: Path) -> Iterator[Watching]:
    """Yield the probe, started after the server."""
    with watching() as started:
        yield started


def counts(seen: Path) -> list[list[int]]:
    """Return the bytes that the server received and sent, by connection."""
    return [json.loads(line) for line in seen.read_text().splitlines(keepends=True)[1:] if line.endswith("\n")]


def talk(network: Hosts, *arguments: object) -> int:
    """Run the client to its end; return its process."""
    with network.start_on_client(sys.executable, "-c", CLIENT, *map(str, arguments)) as process:
        out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, out
    return process.pid


def bytes_of(event: Captured) -> list[int]:
    """Return the bytes of an end."""
    return [event.args["bytes_sent"], event.args["bytes_received"]]


@pytest.mark.parametrize("address", [SERVER, SERVER6, f"::ffff:{SERVER}"], ids=["v4", "v6", "mapped"])
def test_the_end_has_the_bytes_that_the_server_counted(network, counted, seen, address):
    """However a connection ends, its end has the bytes that the server received and sent."""
    for more, size, end in TALKS:
        before = len(counts(counted))
        pid = talk(network, address, more, size, end)
        wait_until(lambda known=before: len(counts(counted)) > known, "the server")
        seen.until(lambda own=pid: seen.of(own, NET_TCP_CLOSE), "the end")
        [closed] = seen.of(pid, NET_TCP_CLOSE)
        assert bytes_of(closed) == counts(counted)[-1], (more, size, end)


def test_a_retransmission_counts_once(network, counted, seen):
    """Bytes that the client had to send again count once."""
    drop = ("-p", "tcp", "--sport", str(PORT), "-j", "DROP")
    with network.start_on_client(sys.executable, "-c", CLIENT, SERVER, "5000", "70", "repeat") as one:
        assert one.stdout.readline() == "connected\n"
        network.on_client("iptables", "-w", "-A", "INPUT", *drop)
        one.stdin.write("\n")
        one.stdin.flush()
        assert one.stdout.readline() == "repeated\n"
        network.on_client("iptables", "-w", "-D", "INPUT", *drop)
        assert one.wait(PATIENCE) == 0
        seen.until(lambda: seen.of(one.pid, NET_TCP_CLOSE), "the end")
        [closed] = seen.of(one.pid, NET_TCP_CLOSE)
    assert bytes_of(closed) == [len("70 repeat\n") + 5000, 70]


def test_a_kernel_that_does_not_count_them(network, counted, monkeypatch, tmp_path):
    """Without one of the counters in the kernel, an end has no bytes, and everything else is as before."""
    offset = Btf.offset

    def lacking(btf: Btf, name: str, member: str) -> int:
        if member == "bytes_retrans":
            raise KeyError(member)
        return offset(btf, name, member)

    monkeypatch.setattr(Btf, "offset", lacking)
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path))
    with watching() as seen:
        pid = talk(network, SERVER, 10, 100, "client")
        seen.until(lambda: seen.of(pid, NET_TCP_CLOSE) and seen.of(pid, SCHED_PROCESS_EXIT), "the end")
        [closed], [result] = seen.of(pid, NET_TCP_CLOSE), seen.of(pid, NET_TCP_CONNECT_RESULT)
    assert closed.args == {name: result.args[name] for name in ("dst", "dst_port", "socket", "community_id")}
