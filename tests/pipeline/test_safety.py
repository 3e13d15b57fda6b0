"""Tests of dnstrail.kernel.bpf."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dnstrail.bus.ipc import events_address
from dnstrail.captured import CLIENT as ASKS
from dnstrail.captured import Captured
from dnstrail.events import NET_PACKET_DNS, NET_TCP_CONNECT, SCHED_PROCESS_EXIT
from dnstrail.protocol.batches import TURN, Batch, decode
from live.ebpf_source import question_of, watching
from live.namespaces import SENDER, SERVER, SERVER6, Hosts, dnsmasq, hosts, live_or_skip
from live.processes import PATIENCE, children_of, run_dir, text_of, wait_until
from live.remains import KINDS, objects
from live.workers import open_bus

NOBODY = 65534
NEEDED = ("net_admin", "bpf", "perfmon")
OF_HELP = ("dac_read_search", "sys_ptrace")  # to see processes, and sockets, that are older and others' own
CAPTURES = pytest.mark.parametrize("capture", ["ebpf", "ebpf:getaddrinfo"])
_BPF, _SYS_PTRACE, _DAC_READ_SEARCH = 1 << 39, 1 << 19, 1 << 2


@pytest.fixture(scope="module")
def network() -> Iterator[Hosts]:
    """Two hosts, with DNS servers on IPv4 and IPv6."""
    live_or_skip("dig")
    with hosts() as both, dnsmasq(both.server, SENDER, 53, "/test/192.0.2.1"):
        wait_until(lambda: dig(both, "ready.test"), "the server")
        yield both


def dig(network: Hosts, name: str) -> int:
    """Ask one question. Gives the id of the process that asked, 0 without an answer."""
    with network.start_on_client("dig", "+short", "+tries=1", "+time=60", f"@{SENDER}", name) as process:
        out, _ = process.communicate(timeout=PATIENCE)
    return process.pid if "192.0.2.1" in out else 0


class Probe:
    """A probe in a process of its own, and the events that it published."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.events: list[tuple[str, Captured]] = []
        self.arrived = False
        self._of_turn: list[tuple[str, Captured]] = []

    def listen(self, subscriber: object) -> bool:
        """Receive the events of whole turns, whose topics come in no fixed order; whether any message has arrived."""
        while (message := subscriber.receive()) is not None:
            topic, body = message
            self.arrived = True
            if topic == TURN:
                self.events += self._of_turn
                self._of_turn.clear()
            else:
                self._of_turn += [(topic, event) for event in decode(body, Batch).events]
        return self.arrived


@contextmanager
def probe(*prefix: str, owner: int = 0, capture: str = "ebpf") -> Iterator[tuple[Probe, object]]:
    """Yield a running probe whose messages arrive."""
    with run_dir() as folder, open_bus() as bus:
        os.chown(folder, owner, owner)
        subscriber = bus.subscriber(
            [events_address(folder)], [NET_PACKET_DNS, NET_TCP_CONNECT, SCHED_PROCESS_EXIT, TURN]
        )
        command = [*prefix, sys.executable, "-m", "dnstrail_probe", "--capture", capture, "--run-dir", str(folder)]
        process = subprocess.Popen(command)
        started = Probe(process)
        try:
            wait_until(lambda: started.listen(subscriber) or process.poll() is not None, "the probe")
            assert process.poll() is None
            yield started, subscriber
        finally:
            process.kill()
            process.wait()


def threads(pid: int) -> list[dict[str, str]]:
    """Return the status of each thread of a process."""
    return [status_of(int(task.name), f"/proc/{pid}/task") for task in Path(f"/proc/{pid}/task").iterdir()]


def status_of(pid: int, proc: str = "/proc") -> dict[str, str]:
    """Return the status of a process, or of a thread."""
    return dict(re.findall(r"^(\w+):\t(.*)$", text_of(Path(f"{proc}/{pid}/status")), re.MULTILINE))


@CAPTURES
@pytest.mark.parametrize("user", [NOBODY, 0])
def test_few_capabilities_are_enough_and_are_given_up(network, user, capture):
    """As nobody with five capabilities, or root with three, it captures all, and threads and child keep two at most."""
    few = ["--bounding-set=-all" + "".join(f",+{name}" for name in NEEDED)]
    if user:
        few = [f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        few += [f"--{kind}-caps=-all" + "".join(f",+{n}" for n in (*NEEDED, *OF_HELP)) for kind in ("inh", "ambient")]
    with probe("setpriv", *few, owner=user, capture=capture) as (started, subscriber):
        pid = dig(network, "few.test")
        assert pid

        def answered() -> list[Captured]:
            started.listen(subscriber)
            seen = [event for topic, event in started.events if topic == NET_PACKET_DNS and event.flow.role == ASKS]
            return [event for event in seen if question_of(event) == "few.test" and not event.flow.egress]

        wait_until(answered, "the answer")
        assert {(event.process.pid, event.process.path) for event in answered()} == {(pid, "/usr/bin/dig")}
        wait_until(lambda: started.listen(subscriber) and ends_of(started, pid), "the end of dig")
        reads_homes = 0  # the thread that reads the stores of users
        alive = filter(None, (*threads(started.process.pid), *map(status_of, children_of(started.process.pid))))
        for status in alive:
            assert status["Uid"].split()[0] == str(user)
            reads = int(status["CapPrm"], 16) & _DAC_READ_SEARCH
            reads_homes += reads > 0
            for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
                assert int(status[kind], 16) & ~((reads or _BPF) | _SYS_PTRACE) == 0, status
            assert status["NoNewPrivs"] == "1"
        assert reads_homes == (user != 0)  # this root does not have the capability


def ends_of(started: Probe, pid: int) -> list[Captured]:
    """Return the exit events of a process."""
    return [event for topic, event in started.events if topic == SCHED_PROCESS_EXIT and event.process.pid == pid]


@CAPTURES
def test_killed_probe_leaves_nothing_in_the_kernel(network, capture):
    """After kill -9 no program, link or map of the probe is left, and names resolve all the time."""
    with probe(capture=capture) as (started, _):
        held = held_by(started.process.pid)
        assert {*KINDS.values()} == {kind for kind, _ in held}
        assert re.findall("LLVM|libbcc", text_of(Path(f"/proc/{started.process.pid}/maps"))) == []
        assert held <= objects()
        assert dig(network, "before.test")
        started.process.send_signal(signal.SIGKILL)
        assert dig(network, "during.test")
        wait_until(lambda: not held & objects(), "all of it to go")
        assert dig(network, "after.test")


def held_by(pid: int) -> set[tuple[str, int]]:
    """Return the BPF objects of a process: kind and id."""
    found = set()
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        found |= {
            (KINDS[kind], int(id_))
            for kind, id_ in re.findall(r"^(prog|link|map)_id:\t(\d+)$", text_of(info), re.MULTILINE)[:1]
        }
    return found


@CAPTURES
def test_two_probes_at_once_both_see_all(network, capture):
    """A second probe runs beside the first, and each captures everything."""
    with probe(capture=capture) as (first, first_subscriber), probe(capture=capture) as (second, second_subscriber):
        pid = dig(network, "both.test")
        assert pid
        for started, subscriber in ((first, first_subscriber), (second, second_subscriber)):
            wait_until(lambda s=started, of=subscriber: s.listen(of) and ends_of(s, pid), "the end of dig")
            packets = [event for topic, event in started.events if topic == NET_PACKET_DNS]
            asked = [event for event in packets if event.flow and event.flow.role == ASKS]
            assert pid in {event.process.pid for event in asked if event.process}  # others may be older than the probe


SEND = """
import socket, sys
address, port, *sizes = sys.argv[1:]
sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(60)
for size in map(int, sizes):
    sock.sendto(bytes(size), (address, int(port)))
    assert len(sock.recv(65536)) == size, size
"""
ECHO = """
import socket, sys
sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
sock.bind(("::", int(sys.argv[1])))
print("bound", flush=True)
while True:
    data, address = sock.recvfrom(65536)
    sock.sendto(data, address)
"""
STREAM = """
import socket, sys
server = socket.create_server(("::", 5353), family=socket.AF_INET6, dualstack_ipv6=True)
client = socket.create_connection((sys.argv[1], 5353))
there, _ = server.accept()
for _ in range(100):
    client.sendall(bytes(60000))
    left = 60000
    while left:
        left -= len(there.recv(left)) or sys.exit("the connection ended early")
"""


@contextmanager
def echo(network: Hosts, port: int) -> Iterator[None]:
    """Run a server that sends everything back."""
    command = ["ip", "netns", "exec", network.server, sys.executable, "-c", ECHO, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "bound\n"
            yield
        finally:
            process.kill()


def passes(network: Hosts, code: str, *arguments: str) -> None:
    """Run a program that exits with 0 only if all its packets arrive."""
    done = network.on_client(sys.executable, "-c", code, *arguments, timeout=PATIENCE)
    assert done.returncode == 0, (arguments, done.stderr)


def test_all_traffic_passes(network):
    """With the probe running every packet arrives: DNS or not, empty, huge, or fragmented."""
    sizes = [str(size) for size in (0, 1, 11, 12, 13, 127, 128, 129, 512, 1500, 4096, 4097, 60000)]
    with watching(frozenset({53, 5353})) as seen, echo(network, 5353), echo(network, 7777):
        for address in (SERVER, SERVER6):
            for port in ("5353", "7777"):
                passes(network, SEND, address, port, *sizes)
            assert network.on_client("ping", "-c1", "-W60", "-s", "4000", address).returncode == 0
        for address in ("127.0.0.1", "::1"):
            passes(network, STREAM, address)
        count = 2 * 4 * (len(sizes) - 1)  # over both versions, leaving and arriving, there and back; but the empty
        seen.until(lambda: seen.source.counters["packets"] >= count, "the packets on the DNS port")
        assert seen.source.counters["unreadable"] == 0


def test_full_buffer_loses_events_and_no_packets(network):
    """If the buffer is not read, events are lost and counted, and every packet arrives."""
    with watching(frozenset({53, 5353})) as seen, echo(network, 5353):
        passes(network, SEND, SERVER, "5353", *["60000"] * 100)
        assert seen.source._programs.counts["ring_full"] > 0
        pid = dig(network, "full.test")
        assert pid
        passes(network, STREAM, "::1")
        for _ in range(100):
            seen.look()
        assert seen.source.counters["ring_full"] == seen.source._programs.counts["ring_full"]
        assert dig(network, "again.test")
        seen.until(lambda: seen.about("again.test"), "events again")
