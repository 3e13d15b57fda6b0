"""The cache runs without the garbage collector: nothing that it does leaves a reference cycle behind."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from dnstrail.captured import Captured, Flow, Process
from dnstrail.events import NET_TCP_CONNECT
from dnstrail.image import Bounds, Image
from dnstrail.protocol.batches import TURN, Batch, Turn, encode
from dnstrail.protocol.lookups import encode_request
from dnstrail_cache.feed.feeder import Feeder
from dnstrail_cache.metrics import Resolvers, cache_metrics
from dnstrail_cache.state.cache_clock import SECOND
from dnstrail_cache.state.cache_state import CacheState
from dnstrail_cache.state.snapshots import EVERY, Snapshots
from dnstrail_cache.worker import _Worker
from live.workers import FakeClock, Messages, response, short_folder, wait_until

DNS = "net_packet_dns"
NAMES = 60  # three times the places of the image
ROUNDS = 4


class Requests:
    """A server whose requests a test appends. It counts the replies."""

    client, fault, refused, remote, user = b"client", "", 0, "", 0

    def __init__(self) -> None:
        self.waiting: list[bytes] = []
        self.body = b""
        self.replies = 0

    def receive(self) -> Requests | None:
        """Return the next request."""
        if not self.waiting:
            return None
        self.body = self.waiting.pop()
        return self

    def reply(self, _body: bytes) -> bool:
        """Count a reply."""
        self.replies += 1
        return True


class Running:
    """A cache with few places, a live probe, and clients with requests of every kind."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.messages, self.requests = Messages(), Requests()
        self.state = CacheState(Image(Bounds(size=20, relations=600, grace=0, history=60)), self.clock)
        feeder = Feeder(self.messages, self.state, lambda *_: None)
        self.worker = _Worker(self.requests, feeder, self.state, lambda: None)
        self.turns = 0

    def round(self) -> None:
        """Apply answers to NAMES questions, and answer requests for them; then let their lives end."""
        for number in range(NAMES):
            self._publish(number)
            self.requests.waiting += _requests(f"n{number}.com", self.turns)
            self.worker.step()
        self.clock.advance(1000)
        self.worker.step()

    def _publish(self, number: int) -> None:
        turn, now = self.turns, round(self.clock.wall() * SECOND)
        for topic, event in _events(number, now):
            # Every tenth turn loses its batches: the sequence of the next one has a gap.
            if number % 10:
                self.messages.waiting.append((topic, encode(Batch(f"s{turn // 50}", turn, turn % 50, [event]))))
        self.messages.waiting += [(DNS, b"bad"), (TURN, b"bad")]
        end = Turn(f"s{turn // 50}", turn, {DNS: turn % 50, NET_TCP_CONNECT: turn % 50}, True, now)
        self.messages.waiting.append((TURN, encode(end)))
        self.turns += 1


def _events(number: int, now: int) -> Iterator[tuple[str, Captured]]:
    name, address = f"n{number}.com", f"192.0.2.{number}"
    process = Process(number + 1, "curl", cgroup_id=number + 1, start_time=1)
    flow = Flow(bytes([10, 0, 0, 53]), 53, bytes([10, 0, 0, 2]), 40000)
    answers = [
        response(name, f"{name} 60 CNAME a{number}.com.", f"a{number}.com 60 CNAME {name}.", f"{name} 9 A {address}"),
        response(name, f"{name} 60 A {address}"),
        response("one.com", f"one.com 60 A {address}"),
        response(f"{number}.2.0.192.in-addr.arpa", f"{number}.2.0.192.in-addr.arpa 60 PTR {name}."),
        b"\0" * 12,
        b"",
    ]
    for payload in answers:
        yield DNS, Captured(now, payload, flow, process)
    yield NET_TCP_CONNECT, Captured(now, b"", flow, process, {"dst": address, "dst_port": 443})


def _requests(name: str, turn: int) -> list[bytes]:
    return [
        encode_request("get", key=name),
        encode_request("get", key="192.0.2.1", after=[(f"s{turn // 50}", turn + 1)]),
        encode_request("get", key="absent.com"),
        encode_request("get", key=1),
        encode_request("get_many", keys=[name, "absent.com", "192.0.2.1"]),
        encode_request("trail", key="192.0.2.1"),
        encode_request("trail", key="absent.com"),
        encode_request("rank", connections=[{"address": "192.0.2.1", "process": 2}]),
        encode_request("rank", connections=[{"address": "no address"}]),
        encode_request("lost", worker="w", lost={}),
        *(encode_request(op) for op in ("schema", "keys", "version", "stats", "health", "dump", "no such operation")),
        b"\xc1",
        b"\x91" * 100,
    ]


@contextmanager
def collector_off() -> Iterator[list[object]]:
    """Yield a list that holds, after the block, each object that only the collector would have freed."""
    garbage: list[object] = []
    gc.collect()
    gc.disable()
    try:
        yield garbage
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        garbage += gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def test_no_event_and_no_request_needs_the_collector():
    """Answers, evictions, ends, losses, bad messages, lookups and refusals leave no cycle."""
    running = Running()
    running.round()  # imports and decoders are made once
    with collector_off() as garbage:
        for _ in range(ROUNDS):
            running.round()
        counters, requests = running.state.counters, len(_requests("", 0))
    assert [type(one).__name__ for one in garbage] == []
    assert running.state.image.counters["evicted_roots"] > NAMES
    assert min(counters[name] for name in ("hits", "misses", "bad_request", "parked", "bad_bus_message")) > 0
    assert running.requests.replies + len(running.worker.pending) == (ROUNDS + 1) * NAMES * requests


def test_no_snapshot_and_no_scrape_needs_the_collector():
    """Snapshots, whole and refused, and metrics leave no cycle."""
    running, resolvers = Running(), Resolvers()
    kept: list[CacheState] = []
    running.round()
    with short_folder() as folder:
        snapshots = Snapshots(folder / "state", running.state)

        def once():
            running.clock.advance(EVERY)
            wait_until(lambda: snapshots.step() or snapshots._writer is None)
            snapshots.close()
            kept.append(CacheState(Image(), running.clock))  # a cache never drops its image
            Snapshots(folder / "state", kept[-1]).load()
            (folder / "state").write_bytes(b"damaged")
            Snapshots(folder / "state", kept[-1]).load()
            cache_metrics(running.state, resolvers)

        once()
        with collector_off() as garbage:
            for _ in range(ROUNDS):
                once()
    assert [type(one).__name__ for one in garbage] == []
    assert running.state.counters["state_saved"] >= ROUNDS
