"""Events: their names, and what a signature reads from one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import dns.exception
import dns.message

from dnstrail.captured import (
    DNS_ANSWER_CONFLICT,
    GETADDRINFO,
    NET_PACKET_DNS,
    NET_SERVER_NAME,
    NET_TCP_CONNECT,
    NET_TCP_CONNECT_RESULT,
    NET_UDP_CONNECT,
    PUBLISHED,
    SCHED_PROCESS_EXEC,
    SCHED_PROCESS_EXIT,
    SCHED_PROCESS_FORK,
    Captured,
    Process,
)

__all__ = [
    "DERIVED",
    "DNS_ANSWER_CONFLICT",
    "GETADDRINFO",
    "MAX_RECORDS",
    "NAMES",
    "NET_PACKET_DNS",
    "NET_PACKET_DNS_REQUEST",
    "NET_PACKET_DNS_RESPONSE",
    "NET_SERVER_NAME",
    "NET_TCP_CONNECT",
    "NET_TCP_CONNECT_RESULT",
    "NET_UDP_CONNECT",
    "ORIGINS",
    "PUBLISHED",
    "SCHED_PROCESS_EXEC",
    "SCHED_PROCESS_EXIT",
    "SCHED_PROCESS_FORK",
    "SIGNATURE_ERRORS",
    "SOURCE",
    "Event",
    "Executable",
    "topics_of",
]

HOST, CONTAINER = ORIGINS = ("host", "container")  # of an event, as event selectors name it
SOURCE = "tracee"  # of every event and finding, as event selectors name it
NET_PACKET_DNS_REQUEST = "net_packet_dns_request"
NET_PACKET_DNS_RESPONSE = "net_packet_dns_response"
DERIVED = (NET_PACKET_DNS_REQUEST, NET_PACKET_DNS_RESPONSE)  # derived from net_packet_dns where they are wanted
NAMES = (*PUBLISHED, *DERIVED)
SIGNATURE_ERRORS = "signature_errors"  # events that a signature failed to handle, among the losses of a worker
MAX_RECORDS = 512  # questions and records of one message that are parsed whole; more of them take seconds


def topics_of(names: Iterable[str]) -> tuple[str, ...]:
    """Return the topics that carry these events on the bus: a derived event travels as its packet."""
    wanted = {*names}
    if wanted.intersection(DERIVED):
        wanted.add(NET_PACKET_DNS)
    return tuple(name for name in PUBLISHED if name in wanted)


@dataclass(frozen=True, slots=True)
class Executable:
    """The program of a process."""

    path: str = ""


@dataclass(frozen=True)
class Event:
    """One event as signatures and outputs read it: what was captured, under the name of the event.

    `mark` is (start id of the probe, turn). A lookup that carries it answers from this event or from a later state.
    `coverage` is the part of the probe's events of the last seconds that was received: 1 if none was lost, None before
    anything is known. A finding is an event too: its data are its `args`.
    """

    event_name: str
    captured: Captured
    mark: tuple[str, int] | None = None
    host_name: str = ""
    args: dict[str, Any] = field(default_factory=dict)
    coverage: float | None = None

    @property
    def source(self) -> str:
        """The source of the event in the sense of an event selector."""
        return SOURCE

    @property
    def timestamp(self) -> int:
        """The time of the event in nanoseconds since the epoch."""
        return self.captured.timestamp

    @property
    def process(self) -> Process:
        """The process that caused the event; all zero if the source does not provide it."""
        return self.captured.process or Process()

    @property
    def process_id(self) -> int:
        """The id of the process, 0 if unknown."""
        return self.process.pid

    @property
    def process_name(self) -> str:
        """The name of the process, "" if unknown."""
        return self.process.name

    @property
    def executable(self) -> Executable:
        """The program of the process; its path is "" if unknown."""
        return Executable(self.process.path)

    @property
    def container_id(self) -> str:
        """The id of the container, "" on the host."""
        return self.process.container_id

    @property
    def origin(self) -> str:
        """The origin in the sense of an event selector: "container" or "host"."""
        return CONTAINER if self.container_id else HOST

    def arg(self, name: str) -> Any:
        """Return an argument by its name in tracee (`src`, `dst`, `src_port`, `dst_port`, ...), or None."""
        if name in self.args:
            return self.args[name]
        flow = self.captured.flow
        if flow is not None and name in _FLOW_ARGS:
            return getattr(flow, _FLOW_ARGS[name])
        return self.captured.args.get(name)

    @cached_property
    def dns(self) -> dns.message.Message | None:
        """The DNS message, parsed on demand, or None if the event carries none.

        A damaged message holds the records before the damage. A message that claims more than MAX_RECORDS records is
        None: a hostile one could take seconds to parse.
        """
        counts = [int.from_bytes(self.captured.payload[at : at + 2]) for at in range(4, 12, 2)]
        if sum(counts) > MAX_RECORDS:
            return None
        try:
            return dns.message.from_wire(
                self.captured.payload, ignore_trailing=True, continue_on_error=True, one_rr_per_rrset=True
            )
        except (dns.exception.DNSException, ValueError):
            return None


_FLOW_ARGS = {
    "src": "source_text",
    "dst": "destination_text",
    "src_port": "source_port",
    "dst_port": "destination_port",
    "role": "role",
}
