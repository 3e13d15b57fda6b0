"""What is captured, with its context, as it travels on the bus (MessagePack arrays) and as signatures see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import ip_address
from typing import Any

import dns.exception
import dns.message
import msgspec

NET_PACKET_DNS = "net_packet_dns"
SCHED_PROCESS_EXEC = "sched_process_exec"
SCHED_PROCESS_EXIT = "sched_process_exit"
SCHED_PROCESS_FORK = "sched_process_fork"
NET_TCP_CONNECT = "net_tcp_connect"
NET_UDP_CONNECT = "net_udp_connect"  # a UDP socket was given its destination: QUIC, and much else
NET_TCP_CONNECT_RESULT = "net_tcp_connect_result"  # whether a connection came about
NET_SERVER_NAME = "net_server_name"  # a TLS server name or an HTTP host, by which a client called a server
DNS_ANSWER_CONFLICT = "dns_answer_conflict"  # the cache's own: a second answer to one query, with other targets
NAMES = (
    NET_PACKET_DNS,
    SCHED_PROCESS_EXEC,
    SCHED_PROCESS_EXIT,
    SCHED_PROCESS_FORK,
    NET_TCP_CONNECT,
    NET_UDP_CONNECT,
    NET_TCP_CONNECT_RESULT,
    NET_SERVER_NAME,
    DNS_ANSWER_CONFLICT,
)
GETADDRINFO = "getaddrinfo"  # the argument of an answer that a call was given, and no packet: its outcome
CLIENT, SERVER, FORWARDER = "client", "server", "forwarder"  # the roles of Flow
# Counters of a source that tell of what it never saw or had no room for -> the hop at which it was lost.
LOSSES = {
    "ring_full": "kernel",
    "socket_full": "kernel",
    "unreadable": "kernel",
    "tcp_evicted": "probe",
    "fragment_evicted": "probe",
    "dnstap_not_accepted": "probe",
    "dnstap_too_many_writers": "probe",
    "dnstap_bad_stream": "probe",
    "dnstap_cut_short": "probe",
}


class Flow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The addresses of one packet: packed (4 or 16 bytes, network order), ports, and "udp" or "tcp".

    What a live source knows besides: the socket (its cookie, and that of its network namespace), whether the packet
    left by it, where the process meant to send, before any NAT, and its role: it asks, it answers, or does both.
    Zero and b"" where it is not known; a connection that is about to be made has no source yet.
    """

    source: bytes
    source_port: int
    destination: bytes
    destination_port: int
    transport: str = "udp"
    socket: int = 0
    namespace: int = 0
    egress: bool = False
    meant: bytes = b""
    meant_port: int = 0
    role: str = ""

    @property
    def source_text(self) -> str:
        """The source address as text; "" if there is none."""
        return str(ip_address(self.source)) if self.source else ""

    @property
    def destination_text(self) -> str:
        """The destination address as text."""
        return str(ip_address(self.destination))

    @property
    def original(self) -> tuple[str, int] | None:
        """Where a packet that leaves was meant to go, if NAT has changed that: address and port."""
        meant = (self.meant, self.meant_port)
        if (
            not self.egress
            or not self.meant
            or self.role == SERVER
            or meant == (self.destination, self.destination_port)
        ):
            return None
        return str(ip_address(self.meant)), self.meant_port


class Process(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The process behind an event; zero and "" where the source does not know."""

    pid: int = 0
    name: str = ""
    path: str = ""
    parent_pid: int = 0
    user_id: int = 0
    container_id: str = ""
    thread_id: int = 0
    cgroup_id: int = 0
    container_name: str = ""
    container_image: str = ""


class Captured(msgspec.Struct, frozen=True, array_like=True):
    """One captured event: `timestamp` in ns since the epoch, the raw DNS payload or b"", and its context."""

    timestamp: int
    payload: bytes = b""
    flow: Flow | None = None
    process: Process | None = None
    args: dict[str, Any] = {}


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
