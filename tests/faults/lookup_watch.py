"""The watch over the cache: a client that always looks a name up, and the counters of each run of the cache."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from dnstrail.bus.ipc import lookups_address
from dnstrail.client import LookupClient
from dnstrail.errors import DataNotFound, DnstrailError
from live.processes import wait_until
from live.resolver_load import name_of

BOUND = 1.0  # seconds: a lookup that no cache answers in this time ends with an error
STUCK = 30.0  # seconds without an answer after which lookups count as stuck
_PAUSE = 0.01  # seconds between two lookups
_PAGE = 500  # names of one request
_REFUSALS = ("bad_request", "key_not_supported", "unsupported_version")
_AT_PROBE = ("kernel", "probe", "decoder")


class LookupWatch(threading.Thread):
    """Looks the first name up again and again. `asked` and `failed` count the lookups and those that nobody answered.

    A lookup fails if it has no answer after BOUND. `longest` is the longest time without an answer.
    """

    def __init__(self, run_dir: Any) -> None:
        super().__init__(daemon=True)
        self.asked = self.failed = 0
        self.longest = 0.0
        self.stop = threading.Event()
        self._client = LookupClient(lookups_address(run_dir), timeout=BOUND)
        self._answered = time.monotonic()

    def run(self) -> None:
        """Look up until the stop signal is set."""
        self._answered = time.monotonic()
        while not self.stop.wait(_PAUSE):
            self.asked += 1
            try:
                self._client.request("get", key=name_of(0))
            except DataNotFound:
                self._note_answer()
            except DnstrailError:
                self.failed += 1
            else:
                self._note_answer()
        self._client.close()

    def begin(self) -> None:
        """Count anew from now on."""
        self.asked = self.failed = 0
        self.longest = 0.0

    @property
    def without_answer(self) -> float:
        """The longest time without an answer, in seconds."""
        return max(self.longest, time.monotonic() - self._answered)

    def _note_answer(self) -> None:
        now = time.monotonic()
        self.longest, self._answered = max(self.longest, now - self._answered), now


class CacheCounters:
    """The counters of the cache over all of its runs: those of an earlier run as they were read last."""

    def __init__(self, run_dir: Any, run: Callable[[], int]) -> None:
        self._client = LookupClient(lookups_address(run_dir), timeout=BOUND)
        self._run = run
        self._by_run: dict[int, Counter[str]] = {}

    def read(self) -> bool:
        """Read the counters of the present run; return whether it answered."""
        run = self._run()
        try:
            stats = self._client.request("stats")["data"]
        except DnstrailError:
            return False
        if run != self._run():
            return False  # the reply of one of the two
        self._by_run[run] = _counted(stats)
        return True

    def total(self) -> Counter[str]:
        """Return the sums over all runs, after a reading."""
        self.read()
        return sum(self._by_run.values(), Counter())

    def found(self, numbers: range) -> set[int]:
        """Return the numbers of the names that the cache finds."""
        held: set[int] = set()
        for first in range(numbers.start, numbers.stop, _PAGE):
            page = range(first, min(first + _PAGE, numbers.stop))
            held |= {number for number, one in zip(page, self._get(page), strict=True) if one}
        return held

    def _get(self, numbers: range) -> list[Any]:
        replies: list[list[Any]] = []

        def answered() -> bool:
            try:
                replies.append(self._client.request("get_many", keys=[name_of(number) for number in numbers])["data"])
            except DnstrailError:
                return False
            return True

        wait_until(answered, "the cache")
        return replies[-1]

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def _counted(stats: dict[str, Any]) -> Counter[str]:
    """Return what the columns need: events lost by hop, what workers lost, and single counters of the cache."""
    lost = stats["lost"]
    members = [member for group in stats["groups"].values() for member in group["members"].values()]
    return Counter(
        messages=stats["image"].get("messages", 0),
        evicted=stats["image"].get("evicted_roots", 0),
        bus=sum(count for name, count in lost["bus"].items() if name != "turn"),
        at_probe=sum(sum(lost[hop].values()) for hop in _AT_PROBE),
        workers=sum(count for name, count in lost["workers"].items() if name != "turn"),
        handover=sum(member["handover_lost_turns"] for member in members),
        vanished=stats["cache"].get("probes_vanished", 0),
        refused=sum(stats["cache"].get(code, 0) for code in _REFUSALS),
    )
