"""The path of a message off the bus into the image: batch, admission, answer, uses, and the sweeps between."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator

from baselines import GO_ALL, GO_COLD, GO_WARM, compared, parse_cost
from figures import Figure, spread
from live_events import BATCH, bodies, fresh, is_answered, of_capture, turn_end
from stopwatch import cost_of

from dnstrail.captured import Captured
from dnstrail.events import NET_PACKET_DNS
from dnstrail.image import Bounds, Image
from dnstrail.image.answer import Circumstances
from dnstrail.image.apply import Stamps, apply_messages
from dnstrail.protocol.batches import TURN, decode_whole, encode
from dnstrail_cache.feed.feeder import Feeder
from dnstrail_cache.state.cache_state import CacheState
from live.workers import FakeClock, Messages

COLD = 100_000  # roots
_SWEPT = 512
_RUNS = 5
_LIVE = Circumstances(live=True)
_clock = time.perf_counter_ns  # the clock of CPU time is a system call, which slows what follows it


def measure(capture: str) -> Iterator[Figure]:
    """Measure the messages of a capture, first all and then again those with answers, and fresh names."""
    events = of_capture(capture)
    answers = [(event.timestamp, event.payload) for event in events if is_answered(event.payload)]
    new = [(event.timestamp, event.payload) for event in fresh(COLD) if is_answered(event.payload)]
    parse, parse_answered = parse_cost([event.payload for event in events]), parse_cost([each for _, each in answers])
    yield Figure("a message in dnspython", parse, "us")
    yield Figure("an answered message in dnspython", parse_answered, "us")
    alone, collected = _least_costs(events)
    yield from compared("all messages, in the worker: mean", alone, parse, GO_ALL)
    yield Figure("the transactions of these messages, more for each", collected - alone, "us")
    later = events[-1].timestamp - events[0].timestamp + 10**9
    image = Image(Bounds(), "accept")
    _cost_alone(image, answers)
    warm, cold = _cost_alone(image, answers, later), _cost_alone(Image(Bounds(), "accept"), new)
    yield from compared("an answer alone, warm roots: mean", warm, parse_answered, GO_WARM)
    yield from compared("an answer alone, cold roots: mean", cold, parse_answered, GO_COLD)
    image = Image(Bounds())
    _apply(image, bodies(events))
    for title, samples in (
        ("warm", _apply(image, bodies(events), later)),
        ("cold", _apply(Image(Bounds()), bodies(fresh(COLD)))),
    ):
        yield from spread(f"an answer, {title} roots", samples, "us", "p50", "p99", "p99.9")


def _least_costs(events: list[Captured]) -> tuple[float, float]:
    """Return the least cost of an event without and with transactions, of _RUNS runs that take turns."""
    runs = [(_worker_cost(events), _worker_cost(events, transactions=True)) for _ in range(_RUNS)]
    return min(alone for alone, _ in runs), min(collected for _, collected in runs)


def _cost_alone(image: Image, answers: list[tuple[int, bytes]], later: int = 0) -> float:
    """Return the CPU time in which an image decodes and applies an answer, in microseconds.

    The answers come without bus, sockets and queries.
    """
    began = time.thread_time()
    for number, (stamp, payload) in enumerate(answers, 1):
        image.feed(stamp + later, payload, _LIVE)
        if number % BATCH == 0:
            image.sweep(_SWEPT)
    return (time.thread_time() - began) / len(answers) * 1e6


def _worker_cost(events: list[Captured], *, transactions: bool = False) -> float:
    """Return the CPU time of the feeder of a cache for one event, in microseconds."""
    messages, clock = Messages(), FakeClock(events[0].timestamp / 1e9)
    state = CacheState(Image(Bounds()), clock)
    feeder = Feeder(messages, state, lambda _conflict, _batch: None)
    turns: deque[tuple[bytes, bytes, float]] = deque()
    for number, body in enumerate(bodies(events)):
        published = min((number + 1) * BATCH, len(events))
        last = events[published - 1].timestamp
        turns.append((body, encode(turn_end(number, published, last)), last / 1e9))
    taken, began = 0, time.thread_time()
    while turns:
        body, end, now = turns.popleft()
        clock.advance(max(now - clock.wall(), 0))
        messages.waiting += [(NET_PACKET_DNS, body), (TURN, end)]
        feeder.drain()
        if transactions:
            collected = state.image.transactions or state.image.begin_transactions()
            collected.advance(state.image.now)
            taken += len(collected.take())
    cost = (time.thread_time() - began) / len(events) * 1e6
    assert state.applied.total() == len(events)
    assert taken > len(events) // 4 or not transactions
    return cost


def _apply(image: Image, batches: Iterable[bytes], later: int = 0) -> list[float]:
    """Apply batches as the feeder does; return the time of each answered message in microseconds.

    It includes a share of its batch: the decoding of the batch, and the sweep after it.
    """
    alone, samples, stamps = cost_of(_clock), [], Stamps(later)
    for body in batches:
        taken: list[int] = []
        began = _clock()
        batch, rows = decode_whole(body)
        shared = _clock() - began
        for row in rows:
            began = _clock()
            apply_messages(image, (row,), stamps, live=True, host=batch.host)
            took = _clock() - began
            if is_answered(row[0].payload):
                taken.append(took)
        began = _clock()
        image.advance(stamps.of(row[0].timestamp))
        image.sweep(_SWEPT)
        shared += _clock() - began
        samples += [(took - alone + shared / len(rows)) / 1000 for took in taken]
    return samples
