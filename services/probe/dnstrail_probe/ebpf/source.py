"""The eBPF source: what the ring buffer gives, as events with their processes."""

from __future__ import annotations

import errno
import os
import time
from collections import Counter
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from dnstrail.captured import CLIENT, Captured, Flow, Process
from dnstrail.dns.names import V4_MAPPED
from dnstrail.events import (
    GETADDRINFO,
    NET_PACKET_DNS,
    NET_TCP_CONNECT,
    NET_TCP_CONNECT_RESULT,
    NET_UDP_CONNECT,
    SCHED_PROCESS_EXEC,
    SCHED_PROCESS_EXIT,
    SCHED_PROCESS_FORK,
)
from dnstrail_probe.ebpf import records
from dnstrail_probe.ebpf.attribution import Attribution
from dnstrail_probe.ebpf.getaddrinfo.calls import GetaddrinfoCalls
from dnstrail_probe.ebpf.getaddrinfo.seccomp_trial import try_watching
from dnstrail_probe.ebpf.loader import Programs
from dnstrail_probe.ebpf.open_sockets import note_open_sockets
from dnstrail_probe.ebpf.program_text import RING_PAGES
from dnstrail_probe.ebpf.ring import Ring
from dnstrail_probe.host.resolv_conf import ResolvConf
from dnstrail_probe.host.roles import is_client, note_role
from dnstrail_probe.options import CaptureOptions
from dnstrail_probe.packets.assembly import LOSSES, Assembly
from dnstrail_probe.source import KERNEL, Captures


class EbpfSource:
    """DNS packets of every socket of the host, connections, processes, and who is behind each.

    `resolver`: also what programs are told by getaddrinfo.

    Raises:
        SourceUnavailable: this host or user cannot have it; the text says why.
    """

    live = True
    damage = ""
    # BPF to read its counters before Linux 5.19, SYS_PTRACE to see what a process runs.
    capabilities = ("CAP_BPF", "CAP_SYS_PTRACE")
    losses = MappingProxyType({"ring_full": KERNEL, "unreadable": KERNEL, **LOSSES})

    def __init__(self, options: CaptureOptions, *, getaddrinfo: bool = False) -> None:
        self.name = "ebpf:getaddrinfo" if getaddrinfo else "ebpf"
        self.counters: Counter[str] = Counter()
        self._ports = ports = options.ports
        self._assembly = Assembly(options, self.counters)
        self._programs = load_programs(options, getaddrinfo=getaddrinfo)
        self._ring = Ring(self._programs.ring_fd, RING_PAGES * os.sysconf("SC_PAGESIZE"))
        self._attribution = Attribution(self._programs.cgroup_root)
        self.counters["sockets_found"] = note_open_sockets(self._programs, self._attribution.processes, ports)
        self._resolvers = ResolvConf()
        self._getaddrinfo = GetaddrinfoCalls(self._programs, self.counters, self.capabilities) if getaddrinfo else None
        self._epoch = 0
        self._readers: dict[int, Callable[[bytes], Captures]] = {
            records.PACKET: self._packet,
            records.CONNECT: self._connecting,
            records.CONNECTED: self._connecting,
            records.NOT_CONNECTED: self._connecting,
            records.RESOLVED: self._told,
            records.EXEC: self._started,
            records.FORK: self._forked,
            records.EXIT: self._ended,
            records.CGROUP_MADE: self._cgroup_changed,
            records.CGROUP_REMOVED: self._cgroup_changed,
        }

    def read(self, timeout: float) -> Captures | None:
        """What has come; waits for `timeout` seconds where nothing has."""
        found = self._ring.drain()
        if not found:
            time.sleep(timeout)
            found = self._ring.drain()
        self._epoch = time.time_ns() - time.monotonic_ns()
        self._count_losses()
        captures = [event for record in found for event in self._events(record)]
        return captures + self._assembly.advance(time.time_ns())

    def close(self) -> None:
        """Detach everything."""
        self._attribution.close()
        if self._getaddrinfo:
            self._getaddrinfo.close()
        self._ring.close()
        self._programs.close()

    def _count_losses(self) -> None:
        counts = {
            "ring_full": self._programs.lost,
            "unreadable": self._programs.unreadable,
            "getaddrinfo_unreadable": self._programs.calls_unreadable,
            "getaddrinfo_over_budget": self._programs.calls_over_budget,
            "processes_dropped": self._attribution.processes.dropped,
            "cgroups_dropped": self._attribution.containers.dropped,
        }
        self.counters.update({reason: count - self.counters[reason] for reason, count in counts.items() if count})

    def _events(self, record: bytes) -> Captures:
        read = self._readers.get(records.kind_of(record))
        return read(record) if read else []

    def _packet(self, record: bytes) -> Captures:
        packet, payload = records.read_packet(record)
        self.counters["packets"] += 1
        process, life = self._attribution.who(packet)
        if process is None:
            self.counters["unattributed"] += 1
        if not self._ports & {packet.sport, packet.dport, packet.meant_port}:
            flow = _flow(packet, "")
            segment = Captured(packet.ts + self._epoch, payload, flow, process)
            return self._assembly.first_bytes(segment, flow, packet.seq, syn=bool(packet.syn))
        client = is_client(
            egress=bool(packet.egress),
            to_server=packet.dport in self._ports or (bool(packet.egress) and packet.meant_port in self._ports),
            from_server=packet.sport in self._ports,
            payload=payload,
        )
        flow = _flow(packet, note_role(life, client=client))
        captured = Captured(packet.ts + self._epoch, payload, flow, process, self._args(packet, flow, process))
        found: Captures = [(NET_PACKET_DNS, captured)]
        if packet.protocol == records.TCP:
            found = self._assembly.segment(captured, flow, packet.seq, syn=bool(packet.syn))
        if self._getaddrinfo and client and not packet.egress:
            self._getaddrinfo.heard(packet, found)
        return found

    def _told(self, record: bytes) -> Captures:
        """What getaddrinfo has told a program."""
        if self._getaddrinfo is None:
            return []
        call, how, payloads = self._getaddrinfo.told(record)
        process, _ = self._attribution.who(call)
        args = {GETADDRINFO: how}
        return [(NET_PACKET_DNS, Captured(call.ts + self._epoch, payload, None, process, args)) for payload in payloads]

    def _args(self, packet: records.PacketRecord, flow: Flow, process: Process | None) -> dict[str, Any]:
        """Of what reaches a client: whether its server is none of those that it is configured to ask, if known."""
        if flow.role != CLIENT or process is None:
            return {}
        configured = self._resolvers.look(packet.netns, process.pid, packet.ts)
        return {} if flow.egress or configured is None else {"foreign": flow.source not in configured}

    def _connecting(self, record: bytes) -> Captures:
        packet, _ = records.read_packet(record)
        process, _ = self._attribution.who(packet)
        flow = _flow(packet, "")
        args: dict[str, object] = {"dst": flow.destination_text, "dst_port": flow.destination_port}
        topic = NET_TCP_CONNECT if packet.protocol == records.TCP else NET_UDP_CONNECT
        if packet.kind != records.CONNECT:
            topic = NET_TCP_CONNECT_RESULT
            args["connected"] = packet.kind == records.CONNECTED
            args["error"] = errno.errorcode.get(packet.error, str(packet.error)) if packet.error else ""
        return [(topic, Captured(packet.ts + self._epoch, b"", flow, process, args))]

    def _started(self, record: bytes) -> Captures:
        process = self._attribution.started(record)
        if self._getaddrinfo:
            self._getaddrinfo.started(process.pid)
        return [(SCHED_PROCESS_EXEC, Captured(records.read_process(record).ts + self._epoch, b"", None, process))]

    def _forked(self, record: bytes) -> Captures:
        seen = records.read_process(record)
        process = self._attribution.forked(seen)
        args = {"parent_tid": seen.status, "parent_pid": seen.parent, "child_tid": seen.pid, "child_pid": seen.pid}
        return [(SCHED_PROCESS_FORK, Captured(seen.ts + self._epoch, b"", None, process, args))]

    def _ended(self, record: bytes) -> Captures:
        seen = records.read_process(record)
        process = self._attribution.ended(seen)
        if process is None:
            return []
        args = {"exit_code": seen.status >> 8 & 0xFF, "signal_code": seen.status & 0x7F, "process_group_exit": True}
        return [(SCHED_PROCESS_EXIT, Captured(seen.ts + self._epoch, b"", None, process, args))]

    def _cgroup_changed(self, record: bytes) -> Captures:
        folder = self._attribution.cgroup_changed(record)
        if folder and self._getaddrinfo:
            self._getaddrinfo.starting(folder)
        return []


def load_programs(options: CaptureOptions, *, getaddrinfo: bool = False) -> Programs:
    """Load the programs; with `getaddrinfo`, also try the uprobes on a process of our own.

    Raises:
        SourceUnavailable: this host or user cannot have them.
    """
    programs = Programs(options.ports, first_bytes=options.server_names, getaddrinfo=getaddrinfo)
    try:
        if getaddrinfo:
            try_watching(programs.watch_getaddrinfo)
    except BaseException:
        programs.close()
        raise
    return programs


def _flow(packet: records.PacketRecord, role: str) -> Flow:
    size = 4 if packet.family == 4 else 16  # noqa: PLR2004 - the family as the program says it
    connecting = packet.kind != records.PACKET
    return Flow(
        b"" if connecting else packet.saddr[:size],
        packet.sport,
        _address(packet.daddr, size) if connecting else packet.daddr[:size],
        packet.dport,
        "udp" if packet.protocol == records.UDP else "tcp",
        packet.cookie,
        packet.netns,
        bool(packet.egress),
        _address(packet.meant, size) if packet.meant_port else b"",
        packet.meant_port,
        role,
    )


def _address(padded: bytes, size: int) -> bytes:
    return padded.removeprefix(V4_MAPPED) if padded.startswith(V4_MAPPED) else padded[:size]
