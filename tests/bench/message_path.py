"""The path of a message off the bus into the image: batch, admission, answer, uses, and the sweeps between."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator

from baselines import GO_ALL, GO_COLD, GO_WARM, compared, parse_cost
from figures import Figure, spread
from live_events import BATCH, HOST, START, bodies, fresh, is_answered, of_capture
from stopwatch import cost_of

from dnstrail.captured import NET_PACKET_DNS, Captured
from dnstrail.image import Bounds, Image
from dnstrail.image.apply import Stamps, apply_messages
from dnstrail.protocol.batches import TURN, Turn, decode_whole, encode
from dnstrail_cache.feeder import Feeder
from dnstrail_cache.state import CacheState
from live.workers import FakeClock, Messages

COLD = 100_000  # roots
_SWEPT = 512
_clock = time.thread_time_ns


def measure(capture: str) -> Iterator[Figure]:
    """Measure the messages of a capture, first all and then again those with answers, and fresh names."""
    events = of_capture(capture)
    payloads = [event.payload for event in events]
    parse, parse_answered = parse_cost(payloads), parse_cost([*filter(is_answered, payloads)])
    yield Figure("a message in dnspython", parse, "us")
    yield Figure("an answered message in dnspython", parse_answered, "us")
    yield from compared("all messages, in the worker: mean", _worker_cost(events), parse, GO_ALL)
    image = Image(Bounds())
    _apply(image, bodies(events))
    later = events[-1].timestamp - events[0].timestamp + 10**9
    yield from _answered("warm roots", _apply(image, bodies(events), later), parse_answered, GO_WARM)
    yield from _answered("cold roots", _apply(Image(Bounds()), bodies(fresh(COLD))), parse_answered, GO_COLD)


def _answered(title: str, samples: list[float], parse: float, go_share: float) -> Iterator[Figure]:
    """Yield the figures of answered messages."""
    title = f"answered, {title}"
    mean, *others = spread(title, samples, "us", "p50", "p99", "p99.9")
    yield from compared(mean.title, mean.value or 0.0, parse, go_share)
    yield from others
    yield Figure(f"{title}: longest", max(samples), "us")


def _worker_cost(events: list[Captured]) -> float:
    """Return the CPU time of the feeder of a cache for one event, in microseconds."""
    messages, clock = Messages(), FakeClock(events[0].timestamp / 1e9)
    state = CacheState(Image(Bounds()), clock)
    feeder = Feeder(messages, state, lambda _conflict, _batch: None)
    turns: deque[tuple[bytes, bytes, float]] = deque()
    for number, body in enumerate(bodies(events)):
        last = events[min((number + 1) * BATCH, len(events)) - 1].timestamp
        count = {NET_PACKET_DNS: min((number + 1) * BATCH, len(events))}
        end = Turn(START, number, {NET_PACKET_DNS: number}, live=True, now=last, published=count, host=HOST)
        turns.append((body, encode(end), last / 1e9))
    began = time.thread_time()
    while turns:
        body, end, now = turns.popleft()
        clock.advance(max(now - clock.wall(), 0))
        messages.waiting += [(NET_PACKET_DNS, body), (TURN, end)]
        feeder.drain()
    cost = (time.thread_time() - began) / len(events) * 1e6
    assert state.applied.total() == len(events)
    return cost


def _apply(image: Image, batches: Iterable[bytes], later: int = 0) -> list[float]:
    """Apply batches as the feeder does; return the CPU time of each answered message in microseconds.

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
