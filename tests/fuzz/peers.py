"""Hostile peers at every socket of real workers: nothing ends, no event is lost uncounted, and all is given back."""

from __future__ import annotations

import argparse
import faulthandler
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from random import Random

import zmq

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from builders.dnstap_builders import START, WHOLE, Writer, framed, tap
from dnstrail.bus.ipc import lookups_address
from dnstrail.bus.keys import load_keys
from live.ports import free_port
from live.processes import dnstrail, run_dir, started, wait_until
from live.raw_peer import GREETING, connection, finish_handshake, frame, ready
from live.strangers import GROUP, HONEST, PING, STRANGER, as_user
from live.workers import asker, response

OPEN = 60  # hostile connections at once
ASKED = 100  # steps between two lookups of an honest user
HEARTBEATS = 4.5  # seconds: more than two heartbeats of a client
PAUSES = 3  # times that the peers wait for them
PATIENCE = 0.1  # seconds for a step, after which the run says where it waits, and ends
GROWTH = 64 << 20  # bytes by which a worker may grow
HOST = "127.0.0.1"
SERVICE = 60_750  # an id that only root can take on
KINDS = {  # by socket: the kind of a peer, and a message of it
    "lookups": (b"DEALER", frame(b"", more=True) + frame(b"\x81\xa1v\x01")),
    "events": (b"SUB", frame(b"\x01net_packet_dns")),
    "events-replay": (b"DEALER", frame(b"", more=True) + frame(b"\x82\xa5start\xa0\xa5after\xff")),
    "conflicts": (b"SUB", frame(b"\x01dns_answer_conflict")),
    "facts": (b"SUB", frame(b"\x01dns_transaction")),
    "facts-replay": (b"DEALER", frame(b"", more=True) + frame(b"\x82\xa5start\xa0\xa5after\xff")),
    "findings": (b"PUSH", frame(b"\x80")),
}
ACTIONS = ("connect", "connect", "fill", "ping", "half a frame", "read", "hang up", "hang up", "speak http", "curve")


class Attack:
    """The hostile peers of one run. Every choice follows from the seed."""

    def __init__(self, seed: int, folder: Path, ports: dict[str, int], keys: Path) -> None:
        self.counts: Counter[str] = Counter()
        self._random = Random(seed)
        self._folder = folder
        self._ports = ports
        self._keys = load_keys(keys)
        self._context = zmq.Context()
        self._peers: list[tuple[socket.socket, bytes]] = []

    def step(self) -> None:
        """Do one hostile thing."""
        action = self._random.choice(ACTIONS)
        self.counts[action] += 1
        if action == "connect" and len(self._peers) < OPEN:
            self._connect()
        elif action == "speak http":
            self._speak_http()
        elif action == "curve":
            self._curve()
        elif self._peers:
            self._with_peer(action)

    def close(self) -> None:
        """Hang up everywhere."""
        for peer, _ in self._peers:
            peer.close()
        self._context.destroy(linger=0)

    def _connect(self) -> None:
        kind, message = KINDS[name := self._random.choice([*KINDS])]
        peer = socket.socket(socket.AF_UNIX)
        peer.setblocking(False)
        with as_user(STRANGER), suppress(OSError):
            peer.connect(str(self._folder / f"{name}.sock"))
            greeting = GREETING + ready(kind)
            peer.send(greeting[: self._random.choice((3, len(GREETING), len(greeting), len(greeting), len(greeting)))])
        self._peers.append((peer, message))

    def _with_peer(self, action: str) -> None:
        peer, message = self._peers[at := self._random.randrange(len(self._peers))]
        with suppress(OSError):
            if action == "fill":
                peer.send(message * self._random.choice((1, 40, 4000)))
            elif action == "ping":
                peer.send((message + PING) * self._random.choice((1, 300)))
            elif action == "half a frame":
                peer.send(frame(bytes(1000), more=True)[: self._random.randrange(1, 500)])
            elif action == "read":
                peer.recv(1 << 16)
        if action == "hang up":
            peer.close()
            del self._peers[at]

    def _speak_http(self) -> None:
        """Send something to a port that is open to this host: of metrics, or for other hosts without a key."""
        with socket.socket() as peer, suppress(OSError):
            peer.settimeout(0.2)
            peer.connect((HOST, self._random.choice([*self._ports.values()])))
            peer.send(self._random.choice((b"GET /metrics HTTP/1.1\r\n", GREETING, bytes(4000))))
            if self._random.random() < 0.5:
                peer.recv(100)

    def _curve(self) -> None:
        """Flood a socket for other hosts with an allowed key and with heartbeats, and hang up."""
        if self._random.random() > 0.1:
            return
        name = self._random.choice(("lookups", "events", "events-replay"))
        with self._context.socket(zmq.SUB if name == "events" else zmq.DEALER) as peer:
            peer.linger = 0
            peer.setsockopt(zmq.HEARTBEAT_IVL, 1)
            peer.curve_secretkey, peer.curve_publickey = self._keys.secret.encode(), self._keys.public.encode()
            peer.curve_serverkey = self._keys.servers[HOST].public.encode()
            peer.connect(f"tcp://{HOST}:{self._ports[name]}")
            if name == "events":
                peer.subscribe(b"")
                peer.poll(200)
                return
            for _ in range(300):
                with suppress(zmq.Again):
                    peer.send_multipart([b"", b"\x81\xa1v\x01"], zmq.NOBLOCK)
            peer.poll(200)


def main() -> int:
    """Run the steps; return 1 if a worker ended, grew, lost something uncounted, or kept descriptors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000, help="default %(default)d")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9), help="default: another each time")
    given = parser.parse_args()
    if os.geteuid() != 0:
        print("not run: only root can be several users")
        return 0
    print(f"seed {given.seed}, {given.steps:,} steps", flush=True)
    faulthandler.dump_traceback_later(300 + given.steps * PATIENCE, exit=True)
    with run_dir() as folder, ExitStack() as stack:
        os.chown(folder, SERVICE, GROUP)
        folder.chmod(0o750)
        names = ("events", "events-replay", "lookups", "probe", "cache", "signatures", "findings")
        ports = dict(zip(names, count(free_port(HOST, len(names))), strict=False))
        keys = stack.enter_context(known_keys(folder.parent))
        workers = stack.enter_context(pipeline(folder, ports, keys))
        return fuzz(given.steps, Attack(given.seed, folder, ports, keys[1]), folder, workers)


def fuzz(steps: int, attack: Attack, folder: Path, workers: dict[str, subprocess.Popen[str]]) -> int:
    """Attack, and hold the workers to what they promise."""
    resolver, sent, times = Writer(folder.parent / "dnstap.sock"), 0, []
    resolver.send(START)
    lookup_of_honest_user(folder)
    processes = {name: family(worker.pid) for name, worker in workers.items()}
    before = {name: [measured(pid) for pid in pids] for name, pids in processes.items()}
    for number in range(steps):
        attack.step()
        if number % 10 == 0:
            send_event(resolver, sent)
            sent += 1
        if number % ASKED == 0:
            times.append(lookup_of_honest_user(folder))
            if ended := [name for name, worker in workers.items() if worker.poll() is not None]:
                print(f"step {number}: {', '.join(ended)} ended")
                return 1
        if number % (steps // PAUSES) == steps // PAUSES - 1:
            time.sleep(HEARTBEATS)
    attack.close()
    times.sort()
    print(f"actions {dict(attack.counts)}; {sent} events")
    print(f"lookups of an honest user: p50 {times[len(times) // 2] * 1000:.1f} ms, longest {times[-1] * 1000:.1f} ms")
    faults = [*lost(folder, sent), *kept(processes, before, lambda: send_event(resolver, sent))]
    print(*faults or ["no worker ended, grew, kept a descriptor, or lost an event uncounted"], sep="\n")
    return bool(faults)


def send_event(resolver: Writer, number: int) -> None:
    """Let the resolver report an answer."""
    answer = response(f"n{number}.example", f"n{number}.example 300 A 192.0.2.1")
    resolver.send(framed(tap(**WHOLE, response_message=answer)))


def lost(folder: Path, sent: int) -> Iterator[str]:
    """Yield a fault if some of the events that were sent were neither applied nor counted as lost."""
    with asker(lookups_address(folder)) as client:

        def counted() -> int:
            stats = client.ask("stats")["data"]
            return int(stats["image"]["messages"]) + int(stats["lost"]["total"])

        with suppress(AssertionError):
            wait_until(lambda: counted() >= sent, "all events")
        if (found := counted()) != sent:
            yield f"{sent} events were sent, {found} applied or counted as lost"


def kept(
    processes: dict[str, list[int]], before: dict[str, list[tuple[int, int]]], publish: Callable[[], None]
) -> Iterator[str]:
    """Yield a fault for each process that ended, grew too much, or has more descriptors than before.

    A publisher reads some of what its subscribers sent whenever it publishes.
    """
    for name, pids in processes.items():
        for pid, (size, descriptors) in zip(pids, before[name], strict=True):
            if not Path(f"/proc/{pid}").exists():
                yield f"{name}: process {pid} ended"
                continue
            with suppress(AssertionError):
                wait_until(partial(_has_closed, publish, pid, descriptors), "closed connections")
            grown, now = measured(pid)[0] - size, measured(pid)[1]
            if grown > GROWTH:
                yield f"{name}: process {pid} grew by {grown >> 20} MiB"
            if now > descriptors:
                yield f"{name}: process {pid} has {now} descriptors, {descriptors} before"


def family(pid: int) -> list[int]:
    """Return a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [pid, *map(int, children)]


def _has_closed(publish: Callable[[], None], pid: int, descriptors: int) -> bool:
    publish()
    return measured(pid)[1] <= descriptors


def measured(pid: int) -> tuple[int, int]:
    """Return the resident bytes and the number of descriptors of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE"), len([*Path(f"/proc/{pid}/fd").iterdir()])


def lookup_of_honest_user(folder: Path) -> float:
    """Return the seconds that a lookup of another user takes, from its connection to its reply."""
    began = time.monotonic()
    with as_user(HONEST), connection(folder / "lookups.sock", GREETING + ready(b"REQ")) as asking:
        finish_handshake(asking)
        asking.sendall(KINDS["lookups"][1])
        reply = b""
        while b"bad_request" not in reply:
            received = asking.recv(1 << 16)
            assert received, f"the cache hung up on an honest user, after {reply!r}"
            reply += received
    return time.monotonic() - began


@contextmanager
def known_keys(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the folders of the keys of the workers, and of an allowed host."""
    own, other = folder / "own", folder / "other"
    public = [dnstrail("keys", "new", DNSTRAIL_KEYS=str(each)).stdout.strip() for each in (own, other)]
    for keys, arguments in ((own, ("hostile", public[1])), (other, ("--server", HOST, public[0]))):
        assert dnstrail("keys", "allow", *arguments, DNSTRAIL_KEYS=str(keys)).returncode == 0
    yield own, other


@contextmanager
def pipeline(
    folder: Path, ports: dict[str, int], keys: tuple[Path, Path]
) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Run each worker by itself, with sockets for this host, for other hosts, and for metrics."""
    tapped, commands = folder.parent / "dnstap.sock", {}
    commands["cache"] = ["--serve", lookups_address(folder), "--serve", f"tcp://{HOST}:{ports['lookups']}"]
    commands["findings"] = ["--to", f"file:{folder.parent}/findings"]
    commands["signatures"] = []
    published = ["--publish", f"ipc://{folder}/events.sock", "--publish", f"tcp://{HOST}:{ports['events']}"]
    commands["probe"] = ["--capture", f"dnstap:{tapped}", "--subscribers", "2", *published]
    (folder.parent / "findings").touch()
    os.chown(folder.parent / "findings", SERVICE, GROUP)
    with ExitStack() as stack:
        workers = {}
        for name, arguments in commands.items():
            common = ["--run-dir", folder, "--user", f"{SERVICE}:{GROUP}", "--metrics", str(ports[name])]
            run = started(name, *arguments, *common, DNSTRAIL_LOG_LEVEL="error", DNSTRAIL_KEYS=str(keys[0]))
            workers[name] = stack.enter_context(run)
        with asker(lookups_address(folder)) as client:
            wait_until(lambda: client.ask("health")["data"]["turns"], "the pipeline")
        for name in workers:  # a worker begins before the process that serves its metrics
            wait_until(partial(_is_served, ports[name]), f"the metrics of {name}")
        yield workers


def _is_served(port: int) -> bool:
    """Return whether a worker serves its metrics."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/healthz", timeout=1):
            return True
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())
