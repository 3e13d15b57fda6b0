"""The actors whose events a worker handles: its own, and after a change of owners those that have moved."""

from __future__ import annotations

from dataclasses import dataclass

from dnstrail.actor import actor_of_client, actor_of_process
from dnstrail.captured import Flow, Process
from dnstrail_signatures.membership import Membership
from dnstrail_signatures.ownership import Owners, Share
from dnstrail_signatures.recent import RecentBatches


@dataclass(frozen=True, slots=True)
class ShareOfHost:
    """The share of a worker among the actors of one host."""

    share: Share
    host: str

    def owns_process(self, process: Process) -> bool:
        """Return whether the worker owns a process, or its container."""
        return self.share.owns(actor_of_process(process, self.host))

    def owns_client(self, flow: Flow | None, payload: bytes) -> bool:
        """Return whether the worker owns the client of an event."""
        return self.share.owns(actor_of_client(flow, payload))


@dataclass(frozen=True, slots=True)
class Moved:
    """The actors of one host that are in one share and not in another."""

    share: Share
    other: Share
    host: str

    def owns_process(self, process: Process) -> bool:
        """Return whether a process, or its container, has moved."""
        return self._has(actor_of_process(process, self.host))

    def owns_client(self, flow: Flow | None, payload: bytes) -> bool:
        """Return whether the client of an event has moved."""
        return self._has(actor_of_client(flow, payload))

    def _has(self, actor: str) -> bool:
        return self.share.owns(actor) and not self.other.owns(actor)


def lost_turns(before: Owners, group: Membership, recent: RecentBatches) -> int:
    """Return the number of turns that departed members did not handle, and that this worker holds no more."""
    return sum(
        recent.missing_after(start, span.last)
        for start, spans in group.owners.spans.items()
        for worker, span in spans.items()
        if span.last is not None
        and worker not in _ended(before, start)
        and group.worker in group.owners.share(start, span.last + 1).members
    )


def _ended(owners: Owners, start: str) -> set[str]:
    """Return the members that were known to have left."""
    return {worker for worker, span in owners.spans.get(start, {}).items() if span.last is not None}
