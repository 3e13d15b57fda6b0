"""Captured events as they travel on the bus: MessagePack arrays with a flow and a process."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from typing import Any

import msgspec

GETADDRINFO = "getaddrinfo"  # an argument of a net_packet_dns that getaddrinfo() returned: the call's result code
ASKER_SEEN = "asker_seen"  # an argument of a net_packet_dns: true if it was also captured nearer to its asker
RELAY = "relay"  # an argument of a net_packet_dns: pid and start time of the process to which NAT passes the question

# The last time stamp (ns), in the year 2107: every stamp of a pcap file fits, and each life ends before 2^62.
#: time stamp in ns: the year 2107 -> it is skipped in a file (`bad_timestamp`), and clamped on the bus (`stamp_ahead`)
LAST_TIME = (1 << 62) - (1 << 58)

CLIENT, SERVER, FORWARDER = "client", "server", "forwarder"  # the roles of Flow


class Flow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The addresses of one packet, and what a live source adds to them.

    Addresses are packed (4 or 16 bytes, network order). `transport` is "udp" or "tcp". A live source also sets:
    `socket` and `namespace` (the cookies of the socket and of its network namespace), `egress` (the packet left by this
    socket), `meant` and `meant_port` (the destination before any NAT), and `role` (client, server or forwarder).

    An unknown value is 0, b"" or "". A connection attempt of a live source has no source
    address yet.
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
        return _address_text(self.source) if self.source else ""

    @property
    def destination_text(self) -> str:
        """The destination address as text."""
        return _address_text(self.destination)

    @property
    def original(self) -> tuple[str, int] | None:
        """The destination (address and port) before NAT of a packet that leaves; None if NAT did not change it."""
        meant = (self.meant, self.meant_port)
        if (
            not self.egress
            or not self.meant
            or self.role == SERVER
            or meant == (self.destination, self.destination_port)
        ):
            return None
        return _address_text(self.meant), self.meant_port


@lru_cache(maxsize=2048)
def _address_text(packed: bytes) -> str:
    return str(ip_address(packed))


Labels = tuple[tuple[str, str], ...]  # keys and values, by key


class Process(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The process behind an event. A value that the source does not provide is 0 or "".

    `mount_namespace` and `pid_namespace` are inode numbers as in /proc/PID/ns. `start_time` is in ns since the epoch
    and is the same in all events that one run of the probe emits for a process: with `pid` it identifies the process.
    `owner` is the id of the cgroup that owns the share of the process (0: the cgroup of the process itself): no user
    can choose it. `container_id` and `container_name` of a user's container begin with the user (`alice/web`), who
    chooses them, the image and the labels. `container_labels` has those that the probe reads. `unit` and `slice` are
    those of systemd; the ones of a user's systemd begin with the user (`alice/web.service`). A container of root has
    none, unless it runs in a service (Podman's `--cgroups=split`).
    """

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
    mount_namespace: int = 0
    pid_namespace: int = 0
    start_time: int = 0
    owner: int = 0
    unit: str = ""
    slice: str = ""
    container_labels: Labels = ()


class Captured(msgspec.Struct, frozen=True, array_like=True):
    """One captured event: a time stamp (ns since the epoch), the raw DNS payload or b"", and its context.

    No time stamp is less than 0 or later than LAST_TIME. The times of a live source are times of a clock that never
    steps: wall time is ahead of it by `Turn.difference`. `processor` is the number of the processor on which the kernel
    recorded the event; 0 if the source has none.
    """

    timestamp: int
    payload: bytes = b""
    flow: Flow | None = None
    process: Process | None = None
    args: dict[str, Any] = {}
    processor: int = 0
