"""What is captured, with its context, as it travels on the bus (MessagePack arrays) and as signatures see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import dns.exception
import dns.message

from dnstrail.captured import (
    DNS_ANSWER_CONFLICT,
    GETADDRINFO,
    NAMES,
    NET_PACKET_DNS,
    NET_SERVER_NAME,
    NET_TCP_CONNECT,
    NET_TCP_CONNECT_RESULT,
    NET_UDP_CONNECT,
    SCHED_PROCESS_EXEC,
    SCHED_PROCESS_EXIT,
    SCHED_PROCESS_FORK,
    Captured,
    Process,
)

__all__ = [
    "DNS_ANSWER_CONFLICT",
    "GETADDRINFO",
    "NAMES",
    "NET_PACKET_DNS",
    "NET_SERVER_NAME",
    "NET_TCP_CONNECT",
    "NET_TCP_CONNECT_RESULT",
    "NET_UDP_CONNECT",
    "SCHED_PROCESS_EXEC",
    "SCHED_PROCESS_EXIT",
    "SCHED_PROCESS_FORK",
    "Event",
    "Executable",
]


@dataclass(frozen=True, slots=True)
class Executable:
    """What a process runs."""

    path: str = ""


@dataclass(frozen=True)
class Event:
    """One event as signatures and the printer see it: what was captured, under its name, with its mark.

    `mark` is (start id of the probe, turn): what a lookup has to have seen to know of it. `coverage` is which part of
    its probe's events of the last seconds was received, from 0 to 1: 1 where none was lost, None where nothing is known
    yet. A finding is an event, too: its data are its arguments.
    """

    event_name: str
    captured: Captured
    mark: tuple[str, int] | None = None
    host_name: str = ""
    args: dict[str, Any] = field(default_factory=dict)
    coverage: float | None = None

    @property
    def timestamp(self) -> int:
        """Nanoseconds since the epoch."""
        return self.captured.timestamp

    @property
    def process(self) -> Process:
        """The process behind it; all zero where the source does not know."""
        return self.captured.process or Process()

    @property
    def process_id(self) -> int:
        """The process's id, 0 if unknown."""
        return self.process.pid

    @property
    def process_name(self) -> str:
        """The process's name, "" if unknown."""
        return self.process.name

    @property
    def executable(self) -> Executable:
        """What the process runs; an empty path if unknown."""
        return Executable(self.process.path)

    @property
    def container_id(self) -> str:
        """The container, "" on the host."""
        return self.process.container_id

    @property
    def origin(self) -> str:
        """Where it comes from: "container" or "host"."""
        return "container" if self.container_id else "host"

    def arg(self, name: str) -> Any:
        """An argument by its name in tracee, or None: `src`, `dst`, `src_port`, `dst_port` of a packet, and others."""
        if name in self.args:
            return self.args[name]
        flow = self.captured.flow
        if flow is not None and name in _FLOW_ARGS:
            return getattr(flow, _FLOW_ARGS[name])
        return self.captured.args.get(name)

    @cached_property
    def dns(self) -> dns.message.Message | None:
        """The DNS message, parsed on demand; what is whole of a damaged one; None if there is none.

        None, too, for one that claims more than 512 records: such take seconds, and are made to.
        """
        counts = [int.from_bytes(self.captured.payload[at : at + 2]) for at in range(4, 12, 2)]
        if sum(counts) > _MAX_RECORDS:
            return None
        try:
            return dns.message.from_wire(
                self.captured.payload, ignore_trailing=True, continue_on_error=True, one_rr_per_rrset=True
            )
        except (dns.exception.DNSException, ValueError):
            return None


_MAX_RECORDS = 512
_FLOW_ARGS = {
    "src": "source_text",
    "dst": "destination_text",
    "src_port": "source_port",
    "dst_port": "destination_port",
    "role": "role",
}
