"""The processes with a pool of resolver threads: they connect in the order in which the threads return."""

from __future__ import annotations

from collections import OrderedDict

from dnstrail.image.binding.processes import Identity
from dnstrail.image.counts import Counts

MAX_THREADS = 4096  # threads that asked, of all processes; beyond it the one that returned longest ago is evicted


class ResolverPools:
    """The threads that asked names, and the processes in which such a thread asked again.

    A client with a thread for each lookup (libcurl) connects in the order of asking. A pool of threads (libuv, asyncio)
    hands over the results in the order in which its threads return. Evictions are counted as
    `evicted_resolver_threads`.
    """

    def __init__(self, counters: Counts) -> None:
        self.counters = counters
        self._threads: OrderedDict[tuple[Identity, int], None] = OrderedDict()
        self._pools: OrderedDict[Identity, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._threads)

    def returned(self, owner: Identity, thread: int) -> None:
        """Note that a thread has the answers to its question."""
        key = owner, thread
        if key in self._threads:
            self._threads.move_to_end(key)
            self._pools[owner] = None
            if len(self._pools) > MAX_THREADS:
                self._pools.popitem(last=False)
            return
        self._threads[key] = None
        if len(self._threads) > MAX_THREADS:
            self._threads.popitem(last=False)
            self.counters["evicted_resolver_threads"] += 1

    def has(self, owner: Identity) -> bool:
        """Return whether a process has a pool of resolver threads."""
        return owner in self._pools
