"""The actors whose events a worker handles: its own, and after a change of owners those that have moved."""

from __future__ import annotations

from dataclasses import dataclass

from dnstrail.actor import actor_of_client, actor_of_process
from dnstrail.captured import Flow, Process
from dnstrail_signatures.group.ownership import Share


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
        return self.share.owns(actor_of_client(flow, payload, self.host))


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
        return self._has(actor_of_client(flow, payload, self.host))

    def _has(self, actor: str) -> bool:
        return self.share.owns(actor) and not self.other.owns(actor)
