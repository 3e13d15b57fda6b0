"""The names that connections of real processes mean, on the real kernel; all names share one address."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from dnstrail.bus.ipc import lookups_address
from dnstrail.events import DNS_SOCKET_CLOSE, NET_PACKET_DNS
from live.ebpf_source import watching
from live.namespaces import SERVER, Hosts
from live.pipelines import Run, pipeline
from live.processes import PATIENCE, dnstrail, wait_until
from live.workers import asker

OPEN = 53  # the port on which the server of the namespaces listens
LIFE = 2.5  # seconds of an answer without a TTL: a machine may stand still before a client connects
LINE = ("--output", "json", "--events", "net_tcp_connect,net_tcp_close")
# Two threads ask a name each, and connect in the opposite order.
THREADS = """
import socket, sys, threading
asked, first = threading.Barrier(2), threading.Event()
def run(name, waits):
    address = socket.gethostbyname(name)
    asked.wait()
    if waits:
        first.wait()
    socket.create_connection((address, 53)).close()
    first.set()
threads = [threading.Thread(target=run, args=(name, name == sys.argv[1])) for name in sys.argv[1:]]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
# As Go does, each of two threads asks for A and AAAA of a name by a socket each. One thread connects, once both sockets
# of a name are closed.
SOCKETS = """
import socket, struct, sys, threading
server, *names = sys.argv[1:]
def ask(name, kind):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect((server, 53))
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    sock.send(struct.pack("!6H", kind, 0x100, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, kind, 1))
    return sock
asked = [[ask(names[0], kind) for kind in (1, 28)]]
other = threading.Thread(target=lambda: asked.append([ask(names[1], kind) for kind in (1, 28)]))
other.start()
other.join()
for sock in asked[0] + asked[1]:
    sock.recv(512)
for sock in [asked[0][0], *asked[1]]:
    sock.close()
socket.create_connection((server, 53)).close()
asked[0][1].close()
socket.create_connection((server, 53)).close()
"""
# Asks a name, and starts a child with the process id of the program that asked before.
ASKS = "import socket, sys; socket.gethostbyname(sys.argv[1])"
RECYCLES = """
import ctypes, os, signal, socket, struct, sys
pid, address = int(sys.argv[1]), sys.argv[2]
wanted = (ctypes.c_int * 1)(pid)
values = 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, ctypes.addressof(wanted), 1, 0
arguments = ctypes.create_string_buffer(struct.pack("11Q", *values))
libc = ctypes.CDLL(None, use_errno=True)
found = libc.syscall(435, ctypes.byref(arguments), 88)
if found == 0:
    connect = "import socket, sys; socket.create_connection((sys.argv[1], 53)).close()"
    os.execv(sys.executable, [sys.executable, "-c", connect, address])
if found < 0:
    sys.exit(os.strerror(ctypes.get_errno()))
os.waitpid(found, 0)
"""
# Connects to a name, and stays connected until its input ends.
STAYS = """
import socket, sys
sock = socket.create_connection((socket.gethostbyname(sys.argv[1]), 53))
print(sock.getsockname()[1], flush=True)
sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def run(network: Hosts) -> Iterator[Run]:
    """Run all workers."""
    with pipeline(*LINE) as running:
        yield running


def names(run: Run, pid: int) -> list[str]:
    """Return the first name of each connection of a process, in the order of the connections."""
    found = [event for event in run.named("net_tcp_connect") if event["processId"] == pid]
    return [dict(arguments(event))["dst_dns"][0] for event in sorted(found, key=lambda event: event["timestamp"])]


def arguments(event: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the arguments of an event by name."""
    for argument in event["args"]:
        yield argument["name"], argument["value"]


def connections(run: Run, pid: int, count: int) -> list[str]:
    """Wait for the connections of a process, and return their first names."""
    wait_until(lambda: len([one for one in run.named("net_tcp_connect") if one["processId"] == pid]) >= count, "events")
    return names(run, pid)


def test_a_thread_connects_to_what_it_asked(network, run):
    """Two threads ask two names of one address and connect in the opposite order: each connection has its name."""
    for number in range(10):
        asked = f"a{number}.google.com", f"b{number}.google.com"
        with network.start_on_client(sys.executable, "-c", THREADS, *asked) as process:
            assert process.wait(PATIENCE) == 0, process.stdout and process.stdout.read()
        assert connections(run, process.pid, 2) == [asked[1], asked[0]]


def test_a_connection_means_no_question_with_an_open_socket(network, run):
    """The name that the connecting thread asked is meant last, since a socket by which it was asked is closed last."""
    asked = "first.google.com", "second.google.com"
    with network.start_on_client(sys.executable, "-c", SOCKETS, SERVER, *asked) as process:
        assert process.wait(PATIENCE) == 0, process.stdout and process.stdout.read()
    assert connections(run, process.pid, 2) == [asked[1], asked[0]]


def test_a_lookup_ends_with_the_close_of_its_socket(network):
    """The close of the socket by which a thread asked follows its answers, and has the same thread."""
    with watching() as seen, network.start_on_client(sys.executable, "-c", ASKS, "closes.google.com") as process:
        seen.until(lambda: seen.of(process.pid, DNS_SOCKET_CLOSE), "the close")
        [close], asked = seen.of(process.pid, DNS_SOCKET_CLOSE), seen.of(process.pid, NET_PACKET_DNS)
        assert close.timestamp > max(event.timestamp for event in asked)
        assert {event.flow.socket for event in asked} == {close.flow.socket}
        assert close.process == asked[0].process


def test_a_recycled_process_id_inherits_nothing(network, run):
    """A process with the id of an ended process does not mean what that process asked."""
    with network.start_on_client(sys.executable, "-c", ASKS, "dead.google.com") as dead:
        assert dead.wait(PATIENCE) == 0
    assert network.on_client(sys.executable, "-c", ASKS, "last.google.com").returncode == 0
    done = network.on_client(sys.executable, "-c", RECYCLES, str(dead.pid), SERVER)
    assert done.returncode == 0, done.stdout + done.stderr
    assert connections(run, dead.pid, 1) == ["last.google.com"]


def test_an_open_connection_keeps_its_name(network):
    """A connection is named long after TTL, grace and history are over, until its process is killed."""
    with pipeline(*LINE, "--dnscache", "grace=2,history=0.5") as run, asker(lookups_address(run.folder)) as client:
        with network.start_on_client(sys.executable, "-c", STAYS, "stays.google.com") as process:
            port = int(process.stdout.readline())

            def first(**connection: Any) -> str:
                reply = client.ask("trail", key=SERVER, **connection)
                trails = reply["data"]["trails"] if reply["ok"] else []
                return trails[0]["dns_root"] if trails and trails[0]["reasons"][0].startswith("bound") else ""

            described: tuple[dict[str, int], ...] = ({"source_port": port}, {"process": process.pid, "port": OPEN})
            wait_until(lambda: all(first(**one) for one in described), "the connection")
            gone = "stays.google.com"
            wait_until(lambda: not client.ask("get", key=gone)["ok"], "the end of the answer")
            ended = client.ask("health")["data"]["now"]
            wait_until(lambda: client.ask("health")["data"]["now"] > ended + LIFE, "as long again")
            assert [first(**one) for one in described] == [gone, gone]
            looked_up = [client.ask("get", key=SERVER, **one)["data"] for one in described]
            assert [(one["dns_root"], one["state"]) for one in looked_up] == [(gone, "expired")] * 2
            listed = dnstrail(
                "connections", "--json", "--connection", f"process={process.pid}", "--run-dir", run.folder
            )
            [shown] = map(json.loads, listed.stdout.splitlines())
            assert (shown["name"], shown["client_port"], shown["state"]) == (gone, port, "expired")
            assert shown["connected"]
            assert shown["age"] > LIFE
            process.kill()
        wait_until(lambda: not any(first(**one) for one in described), "the end of the process")
        assert (
            dnstrail("connections", "--connection", f"process={process.pid}", "--run-dir", run.folder).returncode == 1
        )
