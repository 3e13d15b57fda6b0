"""Captured events as they travel on the bus (MessagePack arrays), with flow and process."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import msgspec

NET_PACKET_DNS = "net_packet_dns"
SCHED_PROCESS_EXEC = "sched_process_exec"
SCHED_PROCESS_EXIT = "sched_process_exit"
SCHED_PROCESS_FORK = "sched_process_fork"
NET_TCP_CONNECT = "net_tcp_connect"
NET_UDP_CONNECT = "net_udp_connect"  # connect() on a UDP socket: QUIC, and much else
NET_TCP_CONNECT_RESULT = "net_tcp_connect_result"  # the outcome of a TCP connect
NET_SERVER_NAME = "net_server_name"  # the TLS server name or HTTP host that a client sent
DNS_ANSWER_CONFLICT = "dns_answer_conflict"  # emitted by the cache: a second answer to one query, with other targets
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
GETADDRINFO = "getaddrinfo"  # an argument of a net_packet_dns that getaddrinfo() returned: the call's result code

CLIENT, SERVER, FORWARDER = "client", "server", "forwarder"  # the roles of Flow


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
