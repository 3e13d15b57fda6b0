"""Workers for tests: each runs in a thread with a bus of its own, over real sockets in a short folder."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode
import dns.rrset
import msgpack
import msgspec
import zmq

import dnstrail_cache.worker
from dnstrail.bus import Publisher, RemoteHost, ZmqBus
from dnstrail.bus.ipc import events_address, history_address, lookups_address, socket_path
from dnstrail.bus.keys import Keys
from dnstrail.captured import Captured, Flow
from dnstrail.events import NET_PACKET_DNS
from dnstrail.image import Bounds
from dnstrail.process.clock import Clock, SystemClock
from dnstrail.process.signals import WakingEvent
from dnstrail.protocol.batch_publisher import BatchPublisher
from dnstrail.protocol.batches import TURN, Mark
from dnstrail_cache.lookups.past_lookups import PastLookups
from live.processes import PATIENCE

BOUND = PATIENCE  # seconds after which a test that still waits has failed
_LOOK = 0.002  # seconds between two looks at a condition
Target = Callable[[ZmqBus, threading.Event], None]


class FakeClock:
    """A clock whose times a test sets."""

    def __init__(self, wall: float = 1_700_000_000.0, monotonic: float = 100.0) -> None:
        self.wall_time = wall
        self.monotonic_time = monotonic

    def wall(self) -> float:
        """Return the wall time of the test."""
        return self.wall_time

    def monotonic(self) -> float:
        """Return the monotonic time of the test."""
        return self.monotonic_time

    def sleep(self, seconds: float) -> None:
        """Return at once: the monotonic time passes."""
        self.monotonic_time += seconds

    def advance(self, seconds: float) -> None:
        """Let wall time and monotonic time pass."""
        self.wall_time += seconds
        self.monotonic_time += seconds


class SlowClock(FakeClock):
    """A clock on which time passes at each look at it."""

    step = 0.0  # seconds

    def monotonic(self) -> float:
        """Return the monotonic time of the test, which has passed."""
        self.monotonic_time += self.step
        return self.monotonic_time


class SteppedClock(SystemClock):
    """The clock of the host, with a wall time that a test sets ahead by `step` seconds."""

    step = 0.0

    def wall(self) -> float:
        """Return the wall time of the host, plus the step."""
        return super().wall() + self.step


class Messages:
    """A subscriber that receives what a test appends, and holds its subscriptions."""

    publisher: RemoteHost | None = None

    def __init__(self) -> None:
        self.waiting: deque[tuple[str, bytes]] = deque()
        self.topics: list[str] = []
        self.reopened: Counter[str] = Counter()

    def receive(self) -> tuple[str, bytes] | None:
        """Return the next message that the test appended."""
        return self.waiting.popleft() if self.waiting else None

    def fill(self) -> None:
        """Take nothing: all messages are in memory."""

    def subscribe(self, topic: str, _start: str = "") -> None:
        """Subscribe to a topic."""
        self.topics.append(topic)

    def unsubscribe(self, topic: str, _start: str = "") -> None:
        """Cancel a subscription."""
        self.topics.remove(topic)

    def reopen(self, start: str) -> None:
        """Count a new connection to the publisher of a start."""
        self.reopened[start] += 1


@contextmanager
def short_folder() -> Iterator[Path]:
    """Make a folder with a short path: the path of a unix socket has 107 bytes at most."""
    folder = tempfile.mkdtemp(prefix="dt-", dir="/tmp")
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder)


@contextmanager
def open_bus(keys: Keys | None = None) -> Iterator[ZmqBus]:
    """Open a bus, and close it at the end of the block."""
    bus = ZmqBus(keys)
    try:
        yield bus
    except BaseException:
        bus.close(now=True)
        raise
    bus.close()


def wait_until(condition: Callable[[], object], what: str = "the condition") -> None:
    """Wait until a condition holds, for a bounded time."""
    deadline = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not become true"
        time.sleep(_LOOK)


@contextmanager
def running(target: Target, keys: Keys | None = None) -> Iterator[threading.Event]:
    """Run `target(bus, stop)` in a thread until the block ends, and raise its error at the end.

    Yields its stop signal.
    """
    stop = WakingEvent()
    errors: list[BaseException] = []

    def body() -> None:
        try:
            with open_bus(keys) as bus:
                stop.on_set = bus.wake
                target(bus, stop)
        except BaseException as error:  # noqa: BLE001 - handed on
            errors.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(BOUND)
        if errors:
            raise errors[0]
    assert not thread.is_alive(), "the worker did not stop"


@contextmanager
def cache(
    folder: Path, *, clock: Clock | None = None, bounds: Bounds | None = None, probes: Iterable[str] = ()
) -> Iterator[str]:
    """Run a cache on the addresses of a folder. Yields the address of its lookups once it is bound."""
    bound = threading.Event()

    def target(bus: ZmqBus, stop: threading.Event) -> None:
        try:
            server = bus.server(lookups_address(folder))
            subscriber = bus.subscriber([*probes] or [events_address(folder)], dnstrail_cache.worker.TOPICS)
        finally:
            bound.set()
        past = PastLookups(bus, history_address(lookups_address(folder)))
        clock_, bounds_ = clock or SystemClock(), bounds or Bounds()
        dnstrail_cache.worker.run(bus, subscriber, server, clock_, bounds_, stop, past=past)

    with running(target):
        assert bound.wait(BOUND)
        yield lookups_address(folder)


class Probe:
    """The publishing side of a probe: a test publishes turn by turn."""

    def __init__(self, publisher: Publisher, start: str, *, live: bool, clock: Clock | None = None) -> None:
        self.publisher = publisher
        self.start = start
        self._clock = clock or SystemClock()
        self._batches = BatchPublisher(publisher, start, live=live)

    @property
    def next_mark(self) -> Mark:
        """The mark of the events of the turn that is open."""
        return self.start, self._batches.turn

    def turn(
        self, *events: Captured | tuple[str, Captured], ended: bool = False, difference: int = 0, **counters: int
    ) -> Mark:
        """Publish one turn: its events, each alone (a DNS message) or with its name, and its end. Gives its mark."""
        mark = self.next_mark
        for event in events:
            name, captured = event if isinstance(event, tuple) else (NET_PACKET_DNS, event)
            self._batches.add(name, captured)
        self._batches.close_turn(round(self._clock.wall() * 1e9), Counter(counters), ended=ended, difference=difference)
        wait_until(self._batches.flush, "the publisher")
        return mark

    def lose_turn(self, *events: Captured) -> Mark:
        """Lose a turn on the bus: it gets its number, but is not sent. Gives its mark."""
        mark = self.next_mark
        for event in events:
            self._batches.add(NET_PACKET_DNS, event)
        self._batches.close_turn(0, Counter())
        self._batches._outbox.clear()
        return mark


@contextmanager
def probe(
    folder: Path,
    start: str = "start",
    *,
    live: bool = False,
    subscribers: int = 1,
    address: str = "",
    clock: Clock | None = None,
) -> Iterator[Probe]:
    """Run a probe that has published its first, empty turn to its subscribers, and to a cache in the folder."""
    with open_bus() as bus:
        publisher = bus.publisher(address or events_address(folder), lossless=True)
        wait_until(lambda: publisher.subscribers(TURN) >= subscribers, "a subscription")
        publishing = Probe(publisher, start, live=live, clock=clock)
        first = publishing.turn()
        if socket_path(lookups_address(folder)).exists():
            with asker(lookups_address(folder)) as client:
                wait_until_seen(client, first)
        yield publishing


@contextmanager
def answering(address: str, answer: Callable[[bytes], bytes | None]) -> Iterator[None]:
    """Run a server of lookups with replies of the test; None leaves a request without a reply."""
    bound = threading.Event()

    def target(bus: ZmqBus, stop: threading.Event) -> None:
        server = bus.server(address)
        bound.set()
        while not stop.is_set():
            bus.wait(server, timeout=0.02)
            while (served := server.receive()) is not None:
                reply = answer(served.body)
                if reply is not None:
                    served.reply(reply)

    with running(target):
        assert bound.wait(BOUND)
        yield


class Asker:
    """A client of the lookups that uses ZeroMQ and MessagePack alone."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self.socket = socket

    def send(self, op: str, **fields: object) -> None:
        """Send a request."""
        self.socket.send(msgpack.packb({"v": 1, "op": op, **fields}))

    def receive(self) -> dict[str, Any]:
        """Wait for a reply."""
        reply: dict[str, Any] = msgpack.unpackb(self.socket.recv_multipart()[-1])
        return reply

    def ask(self, op: str, **fields: object) -> dict[str, Any]:
        """Send a request and wait for its reply."""
        self.send(op, **fields)
        return self.receive()


@contextmanager
def asker(address: str, kind: int = zmq.REQ) -> Iterator[Asker]:
    """Connect a plain ZeroMQ socket to an address; a receive ends after a bounded time."""
    with zmq.Context() as context, context.socket(kind) as socket:
        socket.linger = 0
        socket.rcvtimeo = int(BOUND * 1000)
        socket.rcvhwm = socket.sndhwm = 0
        socket.connect(address)
        yield Asker(socket)


def wait_until_seen(client: Asker, mark: Mark) -> None:
    """Wait until a cache has received the end of a turn; marks of a probe that is unknown to it do not wait."""
    wait_until(lambda: client.ask("health")["data"]["turns"].get(mark[0], -1) >= mark[1], f"the end of turn {mark}")


def response(question: str, *records: str, rdtype: str = "A", id_: int = 1, rcode: str = "NOERROR") -> bytes:
    """Return a DNS response; records read "owner TTL type data", names in the data end with a dot."""
    message = dns.message.make_response(dns.message.make_query(question, rdtype, id=id_))
    message.set_rcode(dns.rcode.from_text(rcode))
    for record in records:
        owner, ttl, kind, data = record.split(maxsplit=3)
        message.answer.append(dns.rrset.from_text(f"{owner.rstrip('.')}.", int(ttl), "IN", kind, data))
    return message.to_wire()


def seen(payload: bytes, at: float = 1000.0) -> Captured:
    """Return a DNS message as it was captured, at epoch seconds."""
    return Captured(round(at * 1e9), payload)


def exchange(question: str, *records: str, at: float = 1000.0) -> tuple[Captured, Captured]:
    """Return a question and its response, as they were captured at the socket of a client."""
    there = Flow(bytes([192, 0, 2, 100]), 40000, bytes([192, 0, 2, 53]), 53)
    back = Flow(there.destination, 53, there.source, 40000)
    payloads = dns.message.make_query(question, "A", id=1).to_wire(), response(question, *records)
    asked, answered = (seen(payload, at) for payload in payloads)
    return msgspec.structs.replace(asked, flow=there), msgspec.structs.replace(answered, flow=back)
