"""The page of a real process: its start, an idle one, and 2,000 transactions a second with five readers of the feed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from figures import Figure

from live.processes import text_of
from live.tapped_resolver import resolved, resolver
from live.web_page import WebFeed, web_page

READERS, RATE = 5, 2000
SECONDS = float(os.environ.get("DNSTRAIL_WEB_SECONDS", "15"))  # 600 shows whether memory stays flat
_PERCENT = 100


def measure(_capture: str) -> Iterator[Figure]:
    """Measure one process after another state."""
    with resolver() as (folder, _client, writer), web_page(folder, "--folder", "none") as page:
        process = page.process.pid
        page.enter()
        page.request("GET", "/")
        yield Figure("start, to a shown page", processor_time(process), "s")
        began, from_ = time.monotonic(), processor_time(process)
        time.sleep(SECONDS)  # idle
        yield Figure("idle", _PERCENT * (processor_time(process) - from_) / (time.monotonic() - began), "%")
        yield Figure("idle, resident", page.memory, "MiB")
        feeds = [page.feed("?kinds=questions") for _ in range(READERS)]
        counts = [[0] for _ in feeds]
        for feed, count in zip(feeds, counts, strict=True):
            threading.Thread(target=_read, args=(feed, count), daemon=True).start()
        began, from_, sent = time.monotonic(), processor_time(process), 0
        while (passed := time.monotonic() - began) < SECONDS:
            for _ in range(sent, int(passed * RATE)):
                writer.send(resolved(sent))
                sent += 1
            time.sleep(0.01)  # paces the transactions
        yield Figure("transactions sent each second", sent / passed, "")
        busy = _PERCENT * (processor_time(process) - from_) / passed
        yield Figure(f"{RATE:,} transactions a second, {READERS} readers", busy, "%")
        yield Figure("the same, resident", page.memory, "MiB")
        end = time.monotonic() + SECONDS
        while min(count[0] for count in counts) < sent and time.monotonic() < end:
            time.sleep(0.1)  # the last ones are on their way
        yield Figure("transactions that each reader received", min(count[0] for count in counts) / sent, "of 1")
        for feed in feeds:
            feed.connection.close()


def processor_time(process: int) -> float:
    """Return the seconds of processor time that a process has used."""
    fields = text_of(Path(f"/proc/{process}/stat")).rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _read(feed: WebFeed, count: list[int]) -> None:
    with suppress(OSError, ValueError):
        for _, _, entries in feed.messages():
            count[0] += len(entries)
