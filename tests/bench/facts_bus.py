"""The cost of a transaction on the bus: at the cache that publishes it, and at a subscriber; and its bytes.

Also what the facts cost the process of a cache, its relay included, for each DNS message of a capture file: without a
subscriber beside a cache that publishes none, and with one.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from statistics import median

from figures import Figure
from live_events import BATCH, START, bodies, fresh, of_capture

from dnstrail.bus import Subscriber
from dnstrail.bus.ipc import lookups_address
from dnstrail.events import DNS_TRANSACTION
from dnstrail.image import Bounds, Image
from dnstrail.image.apply import Stamps, apply_messages
from dnstrail.image.facts.transaction import Transaction
from dnstrail.protocol.batch_publisher import BatchPublisher
from dnstrail.protocol.batches import Batch, decode, decode_whole
from dnstrail.protocol.facts import FactFeed, unpacked_fact
from dnstrail_cache.facts import captured_of
from live.processes import dnstrail, run_dir, started, used_with_children, wait_until
from live.workers import open_bus

NAMES, RUNS = 5000, 5
COLLECTED = 3  # runs that collect the transactions anew
_FEW = 200  # transactions that travel alone
_ROUNDS = 9  # in each a cache that publishes no facts, one without a subscriber, and one with a subscriber
_NO_FACTS = "import dnstrail_cache.__main__ as cache; cache.FactsPublisher = lambda *_: None"
_BEFORE = 1_000_000  # batches of events that a probe publishes in half a day


class _Sent:
    """A publisher that keeps the bodies of batches."""

    overflowed = False

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def publish(self, topic: str, body: bytes) -> bool:
        """Keep a batch of transactions."""
        if topic == DNS_TRANSACTION:
            self.bodies.append(body)
        return True


def measure(capture: str) -> Iterator[Figure]:
    """Measure the transactions of a capture, and of NAMES fresh names."""
    yield Figure("a transaction, published", min(_publishing_cost(capture) for _ in range(COLLECTED)), "us")
    found = transactions(capture)
    sent = _published(found, BATCH)
    yield Figure("a transaction, read", _cost(lambda: _read(sent), len(found)), "us")
    yield Figure("a transaction in a batch", sum(map(len, sent)) / len(found), "bytes")
    yield Figure("a transaction alone", sum(map(len, _published(found[-_FEW:], 1))) / _FEW, "bytes")
    forms = (_NO_FACTS,), (), ("", DNS_TRANSACTION)
    costs = [[_cost_of_cache(capture, *form) for form in forms] for _ in range(_ROUNDS)]
    yield Figure("a message, a cache that publishes no facts", median(none for none, _, _ in costs), "us")
    yield Figure("a message, without a subscriber", median(alone / none for none, alone, _ in costs), "times as much")
    yield Figure("a message, more with a subscriber", median(heard - alone for _, alone, heard in costs), "us")


def _cost_of_cache(capture: str, before: str = "", *topics: str) -> float:
    """Return the processor time (us) of a cache for a message of a file, with a subscriber of these facts.

    The cache runs the code `before` first.
    """
    with run_dir() as folder, open_bus() as bus, started("cache", "--run-dir", folder, before=before) as cache:
        facts = FactFeed(bus, lookups_address(folder), topics).subscriber
        wait_until(lambda: not dnstrail("stats", "--run-dir", folder).returncode, "the cache")
        wait_until(lambda: not topics or facts.receive(), "its facts")
        used = used_with_children(cache.pid)
        count = _play(capture, folder, facts)

        def is_done() -> bool:
            """Return whether the cache has handled all messages."""
            _read_all(facts)
            return json.loads(dnstrail("stats", "--json", "--run-dir", folder).stdout)["image"]["messages"] == count

        wait_until(is_done, "all messages")
        return (used_with_children(cache.pid) - used) / count * 1e6


def _play(capture: str, folder: Path, facts: Subscriber) -> int:
    """Send a cache the messages of a file, and read its facts meanwhile; return the number of messages."""
    with started("probe", "--capture", capture, "--run-dir", folder) as probe:
        wait_until(lambda: _read_all(facts) or probe.poll() is not None, "the end of the file")
        assert probe.stderr is not None
        return json.loads(probe.stderr.readlines()[-1])["packets"]


def _read_all(facts: Subscriber) -> None:
    while facts.receive() is not None:
        pass


def transactions(capture: str) -> list[Transaction]:
    """Return the transactions that an image collects."""
    return [*chain.from_iterable(_collected(capture))]


def _collected(capture: str) -> Iterator[list[Transaction]]:
    """Yield the transactions that an image collects, after each batch of events."""
    image, stamps = Image(Bounds()), Stamps(0)
    collected = image.begin_transactions()
    for body in chain(bodies(of_capture(capture)), bodies(fresh(NAMES))):
        batch, rows = decode_whole(body)
        apply_messages(image, rows, stamps, live=True, host=batch.host, batch=f"{START}/{_BEFORE + batch.sequence}")
        collected.advance(stamps.of(rows[-1][0].timestamp))
        yield collected.take()


def _publishing_cost(capture: str) -> float:
    """Return the cost (us) of a transaction that is published after the batch of its events, as by the cache."""
    batches, used, count = _publisher(_Sent()), 0.0, 0
    for found in _collected(capture):
        began = time.thread_time()
        _publish(batches, found)
        used += time.thread_time() - began
        count += len(found)
    return used / count * 1e6


def _published(found: list[Transaction], together: int) -> list[bytes]:
    """Return the batches of transactions of which so many are published in a turn."""
    sent = _Sent()
    batches = _publisher(sent)
    for begin in range(0, len(found), together):
        _publish(batches, found[begin : begin + together])
    return sent.bodies


def _publisher(sent: _Sent) -> BatchPublisher:
    return BatchPublisher(sent, "0123456789abcdef", live=True, hop="cache")


def _publish(batches: BatchPublisher, found: list[Transaction]) -> None:
    """Publish transactions as one turn."""
    for one in found:
        batches.add(DNS_TRANSACTION, captured_of(one, START), one.host, START)
    batches.close_turn(1, Counter())
    batches.flush()


def _read(sent: list[bytes]) -> None:
    for body in sent:
        batch = decode(body, Batch)
        for event in batch.events:
            unpacked_fact(DNS_TRANSACTION, event, batch.probe)


def _cost(call: Callable[[], object], count: int) -> float:
    times = []
    for _ in range(RUNS):
        began = time.thread_time()
        call()
        times.append(time.thread_time() - began)
    return min(times) / count * 1e6
