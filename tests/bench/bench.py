"""Benchmarks. Each figure is a ratio of two measurements of one run, so that it holds on any machine."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import dns.message
from batches import batch_costs
from calls import call_cost
from packets import packet_cost

from builders.hostile import BOMBS, MESSAGE_LIMIT
from dnstrail.bus import ZmqBus
from dnstrail.bus.ipc import events_address, lookups_address
from dnstrail.client import DnsDataSource
from dnstrail.dns import decode
from dnstrail.image import Bounds, Image
from dnstrail.process.clock import StreamClock, SystemClock
from dnstrail_cache.worker import TOPICS
from dnstrail_cache.worker import run as run_cache
from dnstrail_probe.registry import open_source
from dnstrail_probe.worker import run as run_probe

RUNS = 5
T = TypeVar("T")


def main() -> None:
    """Measure everything and print one line for each ratio."""
    corpus = os.environ.get("DNSTRAIL_CORPUS")
    capture = str(Path(corpus) / "tracee-dnsperf.pcap") if corpus else "demo"
    messages = _read(capture)
    answered = [payload for _, payload in messages if payload[2] & 0x80 and payload[6:8] != b"\0\0"]
    print(f"{capture}: {len(messages)} messages, {len(answered)} with answers; medians of {RUNS} runs")
    tight = _decoding(answered)
    image = Image(Bounds(size=10**6, grace=60))
    for message in messages:
        image.feed(*message)
    keys = [*image.store.graph.out, *image.store.graph.into]
    feeding = _median(lambda: _feed(messages)) / len(messages) * 1e6
    _line(
        "feed: dnspython alone / decode and relate",
        _per([p for _, p in messages], _naive) / feeding,
        f"{feeding:.1f} us",
    )
    getting = _per(keys, image.get)
    _line("get: decode / in-process get", tight / getting, f"{getting:.1f} us a lookup, {len(keys)} keys")
    with _cache(capture) as dns:
        single = _median(lambda: [dns.get_many([key]) for key in keys[:500]]) / 500
        batched = _median(lambda: [dns.get_many(keys[at : at + 32]) for at in range(0, 480, 32)]) / 480
    _line(
        "lookups over the bus: one key / 32 keys a request",
        single / batched,
        f"{single * 1e6:.0f} us / {batched * 1e6:.0f} us a key",
    )
    _batches([payload for _, payload in messages])
    _live()
    _getaddrinfo()


def _batches(payloads: list[bytes]) -> None:
    """Measure what an event costs on the bus, in ratios to the cost of one that a signature worker wants."""
    costs = batch_costs(payloads)
    for title in ("written", "received", "read", "skipped"):
        cost = getattr(costs, title)
        _line(f"batches: an event wanted / {title}", costs.wanted / cost, f"{costs.wanted:.1f} us / {cost:.2f} us")


def _decoding(answered: list[bytes]) -> float:
    """Compare the decoder with dnspython, and its worst message with usual ones; return its us a message."""
    naive, tight = _side_by_side(answered, _naive, decode)
    _line("decode: dnspython / ours", naive / tight, f"{naive:.1f} us / {tight:.1f} us a message with answers")
    longest = {name: min(_once([wire], decode, time.thread_time) for _ in range(RUNS)) for name, wire in BOMBS.items()}
    worst = max(longest, key=lambda name: longest[name])
    usual = tight * MESSAGE_LIMIT / (sum(map(len, answered)) / len(answered))
    _line(
        "decode: worst of 64 KiB / as many usual bytes",
        longest[worst] / usual,
        f"{longest[worst] / 1e3:.0f} ms: {worst}",
    )
    return tight


def _live() -> None:
    """Measure the cost of live capture for the host's other traffic."""
    cost = packet_cost()
    if isinstance(cost, str):
        print(f"  not measured: {cost}")
        return
    ours, empty = cost
    _line(
        "eBPF: a packet without DNS / an empty program",
        sum(ours) / sum(empty),
        f"in {ours.ingress:.0f} ns, out {ours.egress:.0f} ns; empty {empty.ingress:.0f} and {empty.egress:.0f} ns",
    )


def _getaddrinfo() -> None:
    """Measure the cost of a uprobe for a call of getaddrinfo."""
    cost = call_cost()
    if isinstance(cost, str):
        print(f"  not measured: {cost}")
        return
    probed, alone = cost
    _line("getaddrinfo: a call with uprobes / a call without", probed / alone, f"{probed:.1f} us / {alone:.1f} us")


def _line(title: str, ratio: float, detail: str) -> None:
    print(f"  {title:<52} {ratio:6.1f}   ({detail})")


def _read(capture: str) -> list[tuple[int, bytes]]:
    source = open_source(capture)
    messages: list[tuple[int, bytes]] = []
    while (captured := source.read(1)) is not None:
        messages += [(event.timestamp, event.payload) for _, event in captured]
    source.close()
    return messages


def _naive(payload: bytes) -> list[tuple[str, int, int, str]]:
    message = dns.message.from_wire(payload)
    return [
        (rrset.name.to_text(), rrset.rdtype, rrset.ttl, rdata.to_text()) for rrset in message.answer for rdata in rrset
    ]


def _feed(messages: list[tuple[int, bytes]]) -> None:
    image = Image()
    for message in messages:
        image.feed(*message)


def _per(items: list[T], call: Callable[[T], object]) -> float:
    """Return the median time of one item, in microseconds."""
    return sorted(_once(items, call) for _ in range(RUNS))[RUNS // 2]


def _side_by_side(items: list[T], one: Callable[[T], object], other: Callable[[T], object]) -> tuple[float, float]:
    """Return the CPU time of one item for both calls, in microseconds, from the run with the median ratio.

    Each run measures one call directly after the other.
    """
    pairs = [(_once(items, one, time.thread_time), _once(items, other, time.thread_time)) for _ in range(RUNS)]
    return sorted(pairs, key=lambda pair: pair[0] / pair[1])[RUNS // 2]


def _once(items: list[T], call: Callable[[T], object], clock: Callable[[], float] = time.perf_counter) -> float:
    began = clock()
    for item in items:
        call(item)  # the result is freed at once, as in the workers
    return (clock() - began) / len(items) * 1e6


def _median(call: Callable[[], object]) -> float:
    return sorted(_once([None], lambda _: call()) for _ in range(RUNS))[RUNS // 2] / 1e6


@contextmanager
def _cache(capture: str) -> Iterator[DnsDataSource]:
    """Run a cache in a thread, feed it the capture over a real bus, and yield its data source."""
    stop = threading.Event()
    with tempfile.TemporaryDirectory(prefix="dnstrail-bench-") as folder:
        buses = [ZmqBus() for _ in range(3)]
        server = buses[0].server(lookups_address(Path(folder)))
        subscriber = buses[0].subscriber([events_address(Path(folder))], TOPICS)
        cache = threading.Thread(
            target=run_cache, args=(buses[0], subscriber, server, SystemClock(), Bounds(size=10**6), stop)
        )
        cache.start()
        publisher = buses[1].publisher(events_address(Path(folder)), lossless=True)
        run_probe(open_source(capture), publisher, StreamClock(), stop, 1)
        dns = DnsDataSource(lookups_address(Path(folder)), timeout=30, bus=buses[2])
        yield dns
        stop.set()
        cache.join()
        for bus in buses:
            bus.close()


if __name__ == "__main__":
    main()
