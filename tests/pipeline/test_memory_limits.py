"""Members of the group that behave badly: what they cost a worker is bounded, or its memory limit ends it alone."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import zmq

from builders.dnstap_builders import START, WHOLE, Writer, framed, tap
from dnstrail.bus.ipc import events_address, lookups_address, socket_path
from live.processes import alive, children_of, command_line, run_dir, started, text_of, wait_until
from live.raw_peer import GREETING, connection, finish_handshake, frame, peer, ready, send
from live.workers import BOUND, asker, response

GROWTH = 150  # MiB that an attack may cost a worker
ENDLESS = frame(b"", more=True) * 32_768
REST = 0.01  # seconds between two requests of the other client
MEMORY = 256  # MiB for each worker of a run
PAYLOADS = 1500  # of 60 KB: 86 MiB, beside the 64 MiB that the probe keeps to replay
CONNECTIONS = 1000  # more than the soft limit on descriptors that the workers start with
ANSWER = response("a.com", *[f"a.com 600 A 192.0.{number // 250}.{number % 250}" for number in range(1500)])


class Workers:
    """A cache and the live probe that feeds it, under attack."""

    def __init__(self, folder: Path, processes: dict[str, subprocess.Popen[str]]) -> None:
        self.events, self.lookups = (socket_path(of(folder)) for of in (events_address, lookups_address))
        self.processes = processes
        self.longest = 0.0
        self._dnstap = folder / "dnstap.sock"
        self._before = {worker: self._peak(worker) for worker in processes}

    def publish(self, payload: bytes, times: int) -> None:
        """Let the probe publish a message some times."""
        message = {**WHOLE, "response_time_sec": int(time.time())}
        resolver = Writer(self._dnstap)
        resolver.send(START)
        for _ in range(times):
            resolver.send(framed(tap(**message, response_message=payload)))
        resolver.close()

    def ask(self, stop: threading.Event) -> None:
        """Send requests as another client, and measure the longest time until a reply."""
        with asker(f"ipc://{self.lookups}") as client:
            while not stop.is_set():
                began = time.monotonic()
                assert client.ask("version")["data"] == 1
                self.longest = max(self.longest, time.monotonic() - began)
                stop.wait(REST)

    @property
    def turns(self) -> int:
        """Return the turns of the probe that the cache has received."""
        with asker(f"ipc://{self.lookups}") as client:
            return max(client.ask("health")["data"]["turns"].values(), default=-1)

    @property
    def published(self) -> int:
        """Return the messages that the probe has published, as far as the cache knows: received or lost."""
        with asker(f"ipc://{self.lookups}") as client:
            stats = client.ask("stats")["data"]
        return int(stats["image"].get("messages", 0)) + int(stats["lost"]["bus"].get("net_packet_dns", 0))

    @property
    def growth(self) -> dict[str, int]:
        """Return by how many MiB the largest resident set of each worker has grown."""
        return {worker: self._peak(worker) - before for worker, before in self._before.items()}

    def _peak(self, worker: str) -> int:
        status = text_of(Path(f"/proc/{self.processes[worker].pid}/status"))
        found = re.search(r"VmHWM:\s+(\d+)", status)
        assert found, f"the {worker} worker ended"
        return int(found[1]) >> 10


@pytest.fixture
def workers() -> Iterator[Workers]:
    """Yield a cache and a live probe that work, both started with few descriptors."""
    with run_dir() as folder, ExitStack() as stack:
        options = ("--capture", f"dnstap:{folder}/dnstap.sock", "--subscribers", "1")
        with descriptors(CONNECTIONS - 100):
            cache = stack.enter_context(started("cache", "--run-dir", folder, "--dnscache", "unmatched=accept"))
            probe = stack.enter_context(started("probe", "--run-dir", folder, *options))
        client = stack.enter_context(asker(lookups_address(folder)))
        wait_until(lambda: client.ask("health")["data"]["turns"], "a turn of the probe")
        with descriptors(resource.getrlimit(resource.RLIMIT_NOFILE)[1]):
            yield Workers(folder, {"cache": cache, "probe": probe})


@contextmanager
def descriptors(number: int) -> Iterator[None]:
    """Set the soft limit on descriptors of this process, and of those that the block starts."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def long_subscriptions(workers: Workers, _stack: ExitStack) -> None:
    """Send forty subscriptions of 256 KiB."""
    with peer(workers.events, b"SUB") as hostile:
        assert send(hostile, frame(b"\x01" + os.urandom(256 << 10)), 40) < 40


def many_subscriptions(workers: Workers, _stack: ExitStack) -> None:
    """Send a hundred thousand subscriptions of 60 bytes."""
    with peer(workers.events, b"SUB") as hostile:
        flood = b"".join(frame(b"\x01" + os.urandom(60)) for _ in range(10_000))
        assert send(hostile, flood, 10) < 10


def one_subscription_again_and_again(workers: Workers, _stack: ExitStack) -> None:
    """Send two million times the same subscription."""
    with peer(workers.events, b"SUB") as hostile:
        assert send(hostile, frame(b"\x01turn") * 10_000, 200) < 200


def a_subscriber_that_does_not_read(workers: Workers, stack: ExitStack) -> None:
    """Subscribe to everything, publish payloads of 60 KB, and read none of them."""
    deaf = stack.enter_context(connection(workers.events, GREETING + ready(b"SUB")))
    finish_handshake(deaf)
    deaf.sendall(frame(b"\x01"))
    workers.publish(response("a.com", "a.com 60 A 192.0.2.1") + bytes(60_000), PAYLOADS)
    wait_until(lambda: workers.published == PAYLOADS, "the payloads")


def a_client_that_does_not_read(workers: Workers, stack: ExitStack) -> None:
    """Send requests with long replies, and read none of them."""
    workers.publish(ANSWER, 1)
    with asker(f"ipc://{workers.lookups}") as client:
        wait_until(lambda: client.ask("get", key="a.com")["ok"], "the answer")
    deaf = stack.enter_context(asker(f"ipc://{workers.lookups}", zmq.DEALER))
    deaf.socket.rcvhwm = 1
    deaf.socket.disconnect(f"ipc://{workers.lookups}")
    deaf.socket.connect(f"ipc://{workers.lookups}")
    for _ in range(100):
        deaf.send("get_many", keys=["a.com"] * 1000)
    with asker(f"ipc://{workers.lookups}") as client:
        wait_until(lambda: client.ask("stats")["data"]["cache"].get("overloaded", 0), "a refusal")


def silent_connections(workers: Workers, stack: ExitStack) -> None:
    """Open connections that send nothing."""
    for path in (workers.events, workers.lookups):
        for _ in range(CONNECTIONS):
            stack.enter_context(connection(path))


def half_handshakes(workers: Workers, stack: ExitStack) -> None:
    """Open connections that stop in the middle of the greeting."""
    for path in (workers.events, workers.lookups):
        for _ in range(CONNECTIONS):
            stack.enter_context(connection(path, GREETING[:20]))


def idle_connections(workers: Workers, stack: ExitStack) -> None:
    """Open connections that greet, and then send nothing."""
    for path, kind in ((workers.events, b"SUB"), (workers.lookups, b"DEALER")):
        for _ in range(CONNECTIONS):
            stack.enter_context(connection(path, GREETING + ready(kind)))


ATTACKS = [
    long_subscriptions,
    many_subscriptions,
    one_subscription_again_and_again,
    a_subscriber_that_does_not_read,
    a_client_that_does_not_read,
    silent_connections,
    half_handshakes,
    idle_connections,
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_an_attack_costs_bounded_memory(workers, attack, capsys):
    """The probe and the cache stay small, the turns of the probe arrive, and another client is answered."""
    stop = threading.Event()
    other = threading.Thread(target=workers.ask, args=(stop,))
    other.start()
    with ExitStack() as stack:
        try:
            attack(workers, stack)
            heard = workers.turns
            wait_until(lambda: workers.turns > heard + 3, "further turns during the attack")
        finally:
            stop.set()
            other.join(BOUND)
        with asker(f"ipc://{workers.lookups}") as late:
            assert late.ask("version")["data"] == 1
    with capsys.disabled():
        sys.stdout.write(f"\n{attack.__name__}: MiB {workers.growth}, longest reply {workers.longest:.3f} s\n")
    assert max(workers.growth.values()) < GROWTH
    assert workers.longest > 0


def test_the_disconnected_subscriber_is_counted(workers):
    """The counters of the probe contain each connection that it closed because of too many subscriptions."""
    with peer(workers.events, b"SUB") as hostile, asker(f"ipc://{workers.lookups}") as client:
        # It stays: the messages of one that hangs up may be read too late to count it. While its connection is new to
        # the probe, up to 1,024 messages may be those of an older one.
        send(hostile, b"".join(frame(b"\x01" + os.urandom(60)) for _ in range(2000)), 1)
        wait_until(lambda: "subscribers_disconnected" in str(client.ask("stats")["data"]["probes"]), "the counter")


@pytest.mark.parametrize(
    ("worker", "address", "kind"), [("cache", lookups_address, b"DEALER"), ("probe", events_address, b"SUB")]
)
def test_endless_frames_end_the_worker_alone(worker: str, address: Callable[[Path], str], kind: bytes):
    """A message without an end exceeds the memory limit of its worker: the run names the worker, and ends with 4."""
    with run_dir() as folder:
        options = ("--capture", f"dnstap:{folder}/dnstap.sock", "--run-dir", folder, "--memory", str(MEMORY))
        with started(*options, "--events", "WATCHED_NAME") as run:
            assert any("ready" in line for line in run.stderr)
            children = children_of(run.pid)
            assert any(f"dnstrail_{worker}" in command_line(child) for child in children)
            with peer(socket_path(address(folder)), kind) as hostile:
                assert send(hostile, ENDLESS, 2000) < 2000
            assert run.wait(BOUND) == 4
            said = run.stderr.read()
            assert "OUT OF MEMORY" in said or "no memory is left" in said
            assert f"the {worker} worker " in said
            wait_until(lambda: not any(alive(child) for child in children), "the end of the workers")
