"""The page of a real process: its start, an idle one, and 2,000 transactions a second with five readers of the feed.

Sender and readers are processes of their own. On a busy machine the workers wait for a processor, and readers are late.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, MutableSequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import get_context
from statistics import median
from typing import TypeVar

from figures import Figure

from builders.dnstap_builders import Writer
from live.processes import children_of, processor_time
from live.tapped_resolver import resolved, resolver
from live.web_page import WebPage, web_page

READERS, RATE = 5, 2000
SECONDS = float(os.environ.get("DNSTRAIL_WEB_SECONDS", "15"))  # 600 shows whether memory stays flat
_IDLE = min(SECONDS, 15)  # seconds
_EARLY = 0.25  # of the time: memory is read after it, and at the end
_PERCENT = 100
_SECOND = 1_000_000_000
_fork = get_context("fork")
Shared = MutableSequence[float]
_Of = TypeVar("_Of")


def measure(_capture: str) -> Iterator[Figure]:
    """Measure one process after another state."""
    with resolver() as (folder, client, writer), web_page(folder, "--folder", "none") as page, ExitStack() as stack:
        process, workers = page.process.pid, children_of(os.getpid())
        page.enter()
        page.request("GET", "/")
        yield Figure("start, to a shown page", processor_time(process).used, "s")
        began, from_ = time.monotonic(), processor_time(process).used
        time.sleep(_IDLE)
        yield Figure("idle", _PERCENT * (processor_time(process).used - from_) / (time.monotonic() - began), "%")
        yield Figure("idle, resident", page.memory, "MiB")
        readers = [stack.enter_context(_beside(_read, page, 4)) for _ in range(READERS)]
        while not all(reader[0] for reader in readers):
            time.sleep(0.01)  # they begin to read
        began, before = time.monotonic(), {worker: processor_time(worker) for worker in workers}
        sender = stack.enter_context(_beside(_send, writer, 2))
        time.sleep(_EARLY * SECONDS)
        early = page.memory
        time.sleep(SECONDS - _EARLY * SECONDS)
        passed = time.monotonic() - began
        after = {worker: processor_time(worker) for worker in workers}
        busy = _PERCENT * (after[process].used - before[process].used) / passed
        yield Figure(f"{RATE:,} transactions a second, {READERS} readers", busy, "%")
        yield Figure("the same, resident", page.memory, "MiB")
        yield Figure("the same, growth after a quarter of the time", page.memory - early, "MiB")
        waits = _PERCENT * max(after[worker].waited - before[worker].waited for worker in workers) / passed
        yield Figure("a worker waited for a processor, at most", waits, "%")
        yield from _received(sender, readers, passed)
        yield Figure("events that were lost", client.ask("stats")["data"]["lost"]["total"], "")


def _received(sender: Shared, readers: list[Shared], passed: float) -> Iterator[Figure]:
    """Measure what has arrived, once all did that was sent, or SECONDS later."""
    sent, late = sender
    yield Figure("transactions sent each second", sent / passed, "")
    yield Figure("the sender behind its plan, at most", late, "s")
    end = time.monotonic() + SECONDS
    while min(reader[1] for reader in readers) < sent and time.monotonic() < end:
        time.sleep(0.1)  # the last ones are on their way
    yield Figure("transactions that each reader received", min(reader[1] for reader in readers) / sent, "of 1")
    yield Figure("delay at a reader, median of its last messages", max(reader[2] for reader in readers), "s")
    yield Figure("delay at a reader, longest", max(reader[3] for reader in readers), "s")


@contextmanager
def _beside(work: Callable[[_Of, Shared], None], of: _Of, size: int) -> Iterator[Shared]:
    """Run some work in a process of its own, which shares numbers."""
    shared: Shared = _fork.Array("d", size, lock=False)
    process = _fork.Process(target=work, args=(of, shared), daemon=True)
    process.start()
    try:
        yield shared
    finally:
        process.kill()
        process.join()


def _send(writer: Writer, shared: Shared) -> None:
    """Send transactions for SECONDS. Shares their number, and how many seconds they were late at most."""
    began, sent = time.monotonic(), 0
    while (passed := time.monotonic() - began) < SECONDS:
        for _ in range(sent, int(passed * RATE)):
            writer.send(resolved(sent))
            sent += 1
        shared[:] = sent, max(shared[1], time.monotonic() - began - sent / RATE)
        time.sleep(0.01)  # paces the transactions


def _read(page: WebPage, shared: Shared) -> None:
    """Read the feed. Shares that it reads, the number of transactions, and their delays: the median and the longest."""
    feed, delays = page.feed("?kinds=questions"), [0.0]
    shared[0] = 1
    with suppress(OSError, ValueError):
        for _, _, entries in feed.messages():
            delays = [*delays[-99:], time.time() - entries[0]["timestamp"] / _SECOND]
            shared[1:] = shared[1] + len(entries), median(delays), max(shared[3], delays[-1])
