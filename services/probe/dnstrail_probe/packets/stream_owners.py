"""The owners of TCP streams: who holds most gives up a stream first."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Generic, TypeVar

from dnstrail.captured import Captured

K = TypeVar("K")


class StreamOwners(Generic[K]):
    """The streams of each owner, the longest idle first, and the bytes that they hold.

    An owner is the owner of a process's cgroup; streams of unknown processes have one owner, 0.
    """

    def __init__(self) -> None:
        self._streams: dict[int, OrderedDict[K, None]] = {}
        self._held: Counter[int] = Counter()

    def touch(self, owner: int, stream: K) -> None:
        """Note that a stream, which may be new, is the least idle of its owner."""
        streams = self._streams.setdefault(owner, OrderedDict())
        streams[stream] = None
        streams.move_to_end(stream)

    def hold(self, owner: int, change: int) -> None:
        """Note that the streams of an owner hold more bytes, or fewer."""
        self._held[owner] += change

    def remove(self, owner: int, stream: K) -> None:
        """Remove a stream, which holds no bytes any more."""
        del self._streams[owner][stream]
        if not self._streams[owner]:
            del self._streams[owner]
            del self._held[owner]

    def longest_idle(self, *, of_bytes: bool) -> K:
        """Return the longest idle stream of the owner with most streams, or with most bytes."""
        owner = max(self._streams, key=self._held.__getitem__ if of_bytes else self._count)
        return next(iter(self._streams[owner]))

    def _count(self, owner: int) -> int:
        return len(self._streams[owner])


def owner_of(segment: Captured) -> int:
    """Return the owner of a stream by one of its segments; 0 if it is unknown."""
    return (segment.process.owner or segment.process.cgroup_id) if segment.process else 0
