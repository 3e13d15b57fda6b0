"""Losses on the real kernel have an owner: the cgroup whose events were lost, and no other one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.message
import pytest

from dnstrail.captured import Captured
from dnstrail_probe.ebpf.cgroup_losses import OTHERS
from dnstrail_probe.ebpf.loader import Sizes
from dnstrail_probe.packets import tcp_streams
from live.ebpf_source import Watching, cgroup, inside, watching
from live.namespaces import live_or_skip
from live.ports import free_port
from live.processes import PATIENCE, wait_until

PORT = free_port("127.0.0.1")
OWN = f"dnstrail{os.getpid()}"  # begins the names of the cgroups of this process
PACKETS, SOCKETS, OWNERS = 5000, 3000, 1024
QUIET = 100
FITTING = 500  # packets that fit into a ring buffer of 16 pages, at most
SEND = """
import socket, sys
packet, port, count = bytes.fromhex(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    for _ in range(count):
        sender.sendto(packet, ("127.0.0.1", port))
"""
ON_ONE_PROCESSOR = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # the map evicts entries that this processor made
"""
OPEN = f"""{ON_ONE_PROCESSOR}
import resource, socket, sys
count = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (count + 64, count + 64))
held = []
for _ in range(count):
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if sys.argv[2] == "open":
        held.append(made)
    else:
        made.close()
"""
ANSWER_LATE = f"""{ON_ONE_PROCESSOR}
import socket, sys
answer, port = bytes.fromhex(sys.argv[1]), int(sys.argv[2])
server, own = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
with server, own:
    server.bind(("127.0.0.1", port))
    own.bind(("127.0.0.1", 0))
    print(flush=True)
    sys.stdin.readline()
    server.sendto(answer, own.getsockname())
"""


@pytest.fixture(autouse=True)
def live() -> None:
    """Skip where there is no kernel for it."""
    live_or_skip()


@pytest.fixture
def watched() -> Iterator[Watching]:
    """Yield a source with a small ring buffer and a small table of owners."""
    with watching(frozenset({PORT}), sizes=Sizes(ring_pages=256, owners=OWNERS)) as found:
        yield found


def send(folder: Path, name: str, count: int = 1) -> None:
    """Send DNS queries for a name from a cgroup."""
    command = inside(
        folder, sys.executable, "-c", SEND, dns.message.make_query(name, "A").to_wire().hex(), str(PORT), str(count)
    )
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)


def open_sockets(watched: Watching, folder: Path, how: str) -> None:
    """Open more sockets than the table of owners holds in a cgroup, and keep them open or close each at once.

    Read the ring buffer meanwhile: the processes of a busy host fill it.
    """
    command = inside(folder, sys.executable, "-c", OPEN, str(SOCKETS), how)
    with subprocess.Popen(command, stderr=subprocess.PIPE) as opening:
        wait_until(lambda: watched.look() or opening.poll() is not None, "the sockets")
        assert opening.returncode == 0, opening.stderr.read()


def await_known(watched: Watching, *folders: Path) -> None:
    """Wait until the probe has read that cgroups were made: each has a share of its own from then on."""
    owner_of = watched.source._attribution.owner_of
    watched.until(lambda: all(owner_of(folder.stat().st_ino) for folder in folders), "the cgroups")


@contextmanager
def waiting_to_answer(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process in a cgroup of its own, with an open socket to which it sends an answer on request."""
    answer = dns.message.make_response(dns.message.make_query("late.test", "A")).to_wire().hex()
    command = inside(folder, sys.executable, "-c", ANSWER_LATE, answer, str(PORT))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as victim:
        victim.stdout.readline()
        yield victim


def test_a_flood_is_the_loss_of_its_own_cgroup(watched):
    """A cgroup that floods the ring buffer is named with its losses; a quiet cgroup is not, and no loss is missing."""
    with cgroup(f"{OWN}-flood") as flooding, cgroup(f"{OWN}-quiet") as quiet:
        send(quiet, "before.test")
        watched.until(lambda: watched.about("before.test"), "the query before the flood")
        send(flooding, "flood.test", PACKETS)  # the reader stands still meanwhile
        watched.until(lambda: lost_of(watched, flooding.stat().st_ino), "the losses")
        send(quiet, "after.test")
        watched.until(lambda: watched.about("after.test"), "the query after the flood")
        received = len(watched.about("flood.test"))
        lost = {loss.cgroup: loss for loss in watched.source.lost_by_cgroup}
        own = lost[flooding.stat().st_ino]
        assert own == watched.source.lost_by_cgroup[0]
        assert (own.name, own.owner) == (f"/{OWN}-flood", own.cgroup)
        assert received + own.lost >= PACKETS
        assert quiet.stat().st_ino not in lost
        watched.until(lambda: total_of(watched) == watched.source.counters["ring_full"], "the cgroup of each loss")


def test_a_flood_leaves_room_for_another_cgroup(watched):
    """While nothing reads the ring buffer, a cgroup that floods it loses its own events, and another one none."""
    with cgroup(f"{OWN}-flood") as flooding, cgroup(f"{OWN}-quiet") as quiet:
        await_known(watched, flooding, quiet)
        send(flooding, "flood.test", PACKETS)
        send(quiet, "quiet.test", QUIET)
        watched.until(lambda: len(watched.about("quiet.test")) >= QUIET, "the queries of the quiet cgroup")
        lost = {loss.cgroup for loss in watched.source.lost_by_cgroup}
        assert flooding.stat().st_ino in lost
        assert quiet.stat().st_ino not in lost


def test_a_flood_from_new_cgroups_leaves_room_for_another(watched):
    """Cgroups that the probe has not looked at yet share one part of the ring buffer: making them gains no room."""
    with cgroup(f"{OWN}-flood"), cgroup(f"{OWN}-quiet") as quiet:
        await_known(watched, quiet)
        for number in range(8):
            with cgroup(f"{OWN}-flood/{number}") as flooding:
                send(flooding, "flood.test", PACKETS // 8)
        send(quiet, "quiet.test", QUIET)
        watched.until(lambda: len(watched.about("quiet.test")) >= QUIET, "the queries of the quiet cgroup")
        assert watched.source.counters["ring_full"]
        assert quiet.stat().st_ino not in {loss.cgroup for loss in watched.source.lost_by_cgroup}


def test_many_cgroups_leave_room_for_others():
    """Cgroups that find no room in the kernel's map count together; the map is emptied, and a later one is named."""
    with (
        watching(frozenset({PORT}), sizes=Sizes(ring_pages=16, losing_cgroups=4)) as watched,
        cgroup(f"{OWN}-many"),
        cgroup(f"{OWN}-later") as later,
    ):
        for number in range(6):
            with cgroup(f"{OWN}-many/{number}") as folder:
                send(folder, "many.test", 1000)
        watched.until(lambda: lost_of(watched, OTHERS), "the losses without room")
        assert watched.source.lost_by_cgroup[0].lost >= 1000 - FITTING

        def is_named() -> int:
            send(later, "later.test", 1000)  # the reader stands still meanwhile
            watched.look()
            return lost_of(watched, later.stat().st_ino)

        wait_until(is_named, "the later cgroup to be named")
        assert total_of(watched) >= watched.source.counters["ring_full"]


def total_of(watched: Watching) -> int:
    """Return the losses of all cgroups."""
    return sum(loss.lost for loss in watched.source.lost_by_cgroup)


def lost_of(watched: Watching, cgroup: int) -> int:
    """Return the losses of a cgroup; of OTHERS those without an owner."""
    losses = watched.source.lost_by_cgroup
    return next((loss.lost for loss in losses if loss.cgroup == cgroup and (cgroup or not loss.owner)), 0)


def test_sockets_beyond_the_share_of_a_cgroup_are_its_own_loss(watched):
    """More open sockets than the table of owners holds: those beyond half of it are a loss of their own cgroup."""
    with cgroup(f"{OWN}-open") as folder:
        await_known(watched, folder)
        open_sockets(watched, folder, "open")
        watched.until(lambda: lost_of(watched, folder.stat().st_ino), "the losses")
        assert watched.source.counters["owners_refused"] >= SOCKETS - OWNERS // 2
        assert lost_of(watched, folder.stat().st_ino) >= SOCKETS - OWNERS // 2


def test_open_sockets_of_one_cgroup_evict_no_owner_of_another(watched):
    """A process that keeps more sockets open than the table holds takes the owner of no other one's open socket."""
    with cgroup(f"{OWN}-open") as folder, cgroup(f"{OWN}-victim") as other:
        await_known(watched, folder, other)
        with waiting_to_answer(other) as victim:
            open_sockets(watched, folder, "open")
            victim.communicate(b"\n", timeout=PATIENCE)
    watched.until(lambda: received_late(watched), "the answer")
    assert [event.process.pid for event in received_late(watched) if event.process] == [victim.pid]


def test_closed_sockets_evict_no_owner(watched):
    """A process that opens and closes sockets cannot take the owner of an answer from another one's open socket."""
    with cgroup(f"{OWN}-open") as folder, cgroup(f"{OWN}-victim") as other:
        await_known(watched, folder, other)
        with waiting_to_answer(other) as victim:
            open_sockets(watched, folder, "closed")
            victim.communicate(b"\n", timeout=PATIENCE)
        watched.until(lambda: received_late(watched), "the answer")
        assert not lost_of(watched, folder.stat().st_ino)
    assert [event.process.pid for event in received_late(watched) if event.process] == [victim.pid]


ASK_IN_HALVES = """
import socket, sys
query, port = bytes.fromhex(sys.argv[1]), int(sys.argv[2])
with socket.create_connection(("127.0.0.1", port)) as asking:
    asking.sendall(query[:9])
    print(flush=True)
    sys.stdin.readline()
    asking.sendall(query[9:])
"""
CONNECT = """
import socket, sys
for _ in range(int(sys.argv[2])):
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as one:
        one.sendall(bytes(3))
"""


def test_streams_of_one_cgroup_evict_no_stream_of_another(monkeypatch):
    """A process with more TCP streams than the probe holds loses its own; a query that another one began is read."""
    monkeypatch.setattr(tcp_streams, "MAX_STREAMS", 64)
    wire = dns.message.make_query("halves.test", "A").to_wire()
    halves = (len(wire).to_bytes(2) + wire).hex()
    with (
        watching(frozenset({PORT})) as watched,
        cgroup(f"{OWN}-many") as many,
        cgroup(f"{OWN}-quiet") as quiet,
        socket.create_server(("127.0.0.1", PORT), backlog=1024),
    ):
        command = inside(quiet, sys.executable, "-c", ASK_IN_HALVES, halves, str(PORT))
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as asking:
            asking.stdout.readline()
            watched.look()
            subprocess.run(inside(many, sys.executable, "-c", CONNECT, str(PORT), "200"), check=True, timeout=PATIENCE)
            watched.until(lambda: watched.source.counters["tcp_evicted"], "the evictions")
            asking.communicate(b"\n", timeout=PATIENCE)
        watched.until(lambda: [one for one in watched.about("halves.test") if one.flow.egress], "the query")
        assert lost_of(watched, many.stat().st_ino)
        assert not lost_of(watched, quiet.stat().st_ino)
        assert total_of(watched) == watched.source.counters["tcp_evicted"]


def received_late(watched: Watching) -> list[Captured]:
    """Return the late answer as it arrived at the victim."""
    return [event for event in watched.about("late.test") if not event.flow.egress]


def test_sockets_of_one_cgroup_that_are_older_than_the_probe_leave_room_for_others():
    """A probe that starts beside more sockets of one cgroup than its table holds has room for another one's socket."""
    with cgroup(f"{OWN}-elder") as folder, cgroup(f"{OWN}-victim") as other:
        hoard = OPEN + "[one.bind(('127.0.0.1', 0)) for one in held]; print(flush=True); sys.stdin.readline()\n"
        elder = [*inside(folder, sys.executable, "-c", hoard, str(SOCKETS), "open")]
        with subprocess.Popen(elder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as hoarder:
            hoarder.stdout.readline()
            with watching(frozenset({PORT}), sizes=Sizes(owners=OWNERS)) as watched:
                with waiting_to_answer(other) as victim:
                    victim.communicate(b"\n", timeout=PATIENCE)
                watched.until(lambda: received_late(watched), "the answer")
                assert watched.source.counters["owners_refused"] >= SOCKETS - OWNERS
            hoarder.communicate(b"\n", timeout=PATIENCE)
    assert [event.process.pid for event in received_late(watched) if event.process] == [victim.pid]
