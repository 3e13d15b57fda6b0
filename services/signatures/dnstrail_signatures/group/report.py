"""The report of a worker to its cache: changes alone, each until it is known to have arrived."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dnstrail.protocol.members import Members, Progress


class Report:
    """What one run of the cache holds of this worker, and what this worker knows from it.

    A request may be lost, and so may its reply: what was not confirmed is sent again. A cache that does not hold what
    was confirmed, as after a restart, receives everything.
    """

    def __init__(self) -> None:
        self._cache = ""  # the run of the cache, "" before its first reply
        self._version = 0  # of the changes that this worker knows
        self._held: dict[str, Progress | None] = {}  # by start; None: the cache may hold anything
        self._sent: Mapping[str, Progress | None] = {}  # in the last request; None: dropped

    def fields(self, progress: Mapping[str, Progress]) -> dict[str, Any]:
        """Return the fields of the next request, which replaces one that was not confirmed."""
        dropped = [start for start in self._held if start not in progress]
        changed = {start: one for start, one in progress.items() if self._held.get(start) != one}
        self._sent = changed | dict.fromkeys(dropped)
        self._held |= dict.fromkeys(self._sent)
        fields = {"progress": [*changed.values()]}
        return fields | {"dropped": dropped, "cache": self._cache, "version": self._version} if self._cache else fields

    def take(self, reply: Members) -> None:
        """Take over what a reply to the last request confirms."""
        if reply.again or not reply.cache:
            self._cache, self._version, self._held = "", 0, {}
            return
        self._cache, self._version = reply.cache, reply.version
        for start, one in self._sent.items():
            if one is None:
                self._held.pop(start, None)
            else:
                self._held[start] = one
        self._sent = {}
