"""Translates the records of the ring buffer into events with their processes."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from dnstrail.captured import ASKER_SEEN, CLIENT, GETADDRINFO, RELAY, Captured, Flow, Process
from dnstrail.dns import is_response
from dnstrail.dns.names import V4_MAPPED
from dnstrail.events import (
    DNS_SOCKET_CLOSE,
    NET_PACKET_DNS,
    NET_TCP_CLOSE,
    NET_TCP_CONNECT,
    NET_TCP_CONNECT_RESULT,
    NET_UDP_CLOSE,
    NET_UDP_CONNECT,
    SCHED_PROCESS_EXEC,
    SCHED_PROCESS_EXIT,
    SCHED_PROCESS_FORK,
)
from dnstrail_probe.ebpf import records
from dnstrail_probe.ebpf.attribution import Attribution
from dnstrail_probe.ebpf.getaddrinfo.calls import GetaddrinfoCalls
from dnstrail_probe.host.askers import Askers, note_role
from dnstrail_probe.host.process_table import ProcessEntry
from dnstrail_probe.host.resolv_conf import ResolvConf
from dnstrail_probe.packets.assembly import Assembly
from dnstrail_probe.packets.connection_args import connection_args
from dnstrail_probe.packets.server_names.quic_version import may_be_initial
from dnstrail_probe.packets.tcp_header import TcpHeader
from dnstrail_probe.source import Captures

_RESOLV_CONF = ("CAP_SYS_PTRACE",)  # the capability that opens the root of another process


class RecordTranslator:
    """Translates one record after the other, in their order in the ring buffer.

    The kernel stamps records with the monotonic clock. `epoch` is the distance of that clock from the epoch in ns. It
    is fixed: no stamp follows a step of the wall clock. `getaddrinfo` is None if calls of getaddrinfo are not watched.
    """

    def __init__(
        self,
        *,
        epoch: int,
        ports: frozenset[int],
        attribution: Attribution,
        assembly: Assembly,
        counters: Counter[str],
        getaddrinfo: GetaddrinfoCalls | None = None,
    ) -> None:
        self._epoch = epoch
        self._ports = ports
        self._attribution = attribution
        self._assembly = assembly
        self._counters = counters
        self._getaddrinfo = getaddrinfo
        self._resolvers = ResolvConf(counters, _RESOLV_CONF)
        self._askers = Askers()
        self._translators: dict[int, Callable[[bytes], Captures]] = {
            records.PACKET: self._packet,
            records.CONNECT: self._connection,
            records.CONNECTED: self._connection,
            records.NOT_CONNECTED: self._connection,
            records.CLOSED: self._connection,
            records.DNS_CLOSED: self._dns_close,
            records.RESOLVED: self._getaddrinfo_call,
            records.EXEC: self._exec,
            records.FORK: self._fork,
            records.EXIT: self._exit,
            records.CGROUP_MADE: self._cgroup_change,
            records.CGROUP_REMOVED: self._cgroup_change,
        }

    def events(self, record: bytes) -> Captures:
        """Return the events that a record completes; none for a record of an unknown kind."""
        translate = self._translators.get(record[records.KIND])
        return translate(record) if translate else []

    def close(self) -> None:
        """Stop reading the files of processes."""
        self._resolvers.close()

    def _packet(self, record: bytes) -> Captures:
        packet, payload = records.read_packet(record)
        self._counters["packets"] += 1
        header = None
        if packet.protocol == records.TCP:
            segment = records.read_segment(packet, payload)
            if isinstance(segment, str):
                self._counters[segment] += 1
                return []
            header, payload = segment
        process, entry = self._attribution.process_of(packet)
        if process is None:
            self._counters["unattributed"] += 1
        if self._assembly.server_names and (header or may_be_initial(payload)) and not self._on_dns_port(packet):
            return self._first_bytes(packet, payload, header, process)
        client, role = self._note_role(packet, payload, entry)
        flow = _flow(packet, role)
        stamp, args = packet.ts + self._epoch, self._args(packet, flow, process)
        if header is None and not packet.datagram_size:  # the usual packet is one message
            args |= self._note_message(packet, flow, process, payload, stamp, client)
            return [(NET_PACKET_DNS, Captured(stamp, payload, flow, process, args, packet.processor))]
        captured = Captured(stamp, payload, flow, process, args, packet.processor)
        found = self._assembly.segment(captured, flow, header) if header else _datagrams(packet, captured)
        return [(name, self._noted(packet, message, client)) for name, message in found]

    def _first_bytes(
        self, packet: records.PacketRecord, payload: bytes, header: TcpHeader | None, process: Process | None
    ) -> Captures:
        """Return the server names that the first bytes of a connection complete."""
        flow = _flow(packet, "")
        captured = Captured(packet.ts + self._epoch, payload, flow, process, processor=packet.processor)
        if header:
            return self._assembly.first_bytes(captured, flow, header)
        return [
            event for _, datagram in _datagrams(packet, captured) for event in self._assembly.first_datagram(datagram)
        ]

    def _noted(self, packet: records.PacketRecord, message: Captured, client: bool) -> Captured:
        """Note one of the messages that a packet completes; return it, with its further arguments."""
        flow, process, payload = message.flow, message.process, message.payload
        noted = self._note_message(packet, flow, process, payload, message.timestamp, client) if flow else {}
        return msgspec.structs.replace(message, args={**message.args, **noted}) if noted else message

    def _note_message(
        self,
        packet: records.PacketRecord,
        flow: Flow,
        process: Process | None,
        payload: bytes,
        stamp: int,
        client: bool,
    ) -> dict[str, Any]:
        """Note who asked or answered by a message; return its arguments: its relay, and whether its asker was seen."""
        args: dict[str, Any] = {}
        if self._getaddrinfo and client and not packet.egress:
            self._getaddrinfo.note_answer(packet, payload)
        if packet.relay and not is_response(payload):  # NAT passes a query of a client to it: a server
            args[RELAY], entry = self._attribution.relay_of(packet)
            entry.answers = True
            self._askers.relayed(packet.relay, payload, stamp)
        if self._askers.seen(flow, process.pid if process else 0, payload, stamp, client=client):
            args[ASKER_SEEN] = True
        return args

    def _on_dns_port(self, packet: records.PacketRecord) -> bool:
        return packet.sport in self._ports or packet.dport in self._ports or packet.meant_port in self._ports

    def _note_role(self, packet: records.PacketRecord, payload: bytes, entry: ProcessEntry | None) -> tuple[bool, str]:
        ports, egress = self._ports, packet.egress != 0
        to_server = packet.dport in ports or (egress and packet.meant_port in ports)
        return note_role(entry, payload, egress=egress, to_server=to_server, from_server=packet.sport in ports)

    def _getaddrinfo_call(self, record: bytes) -> Captures:
        if self._getaddrinfo is None:
            return []
        call, outcome, responses = self._getaddrinfo.responses(record)
        process, _ = self._attribution.process_of(call)
        return [
            (
                NET_PACKET_DNS,
                Captured(call.ts + self._epoch, wire, None, process, {GETADDRINFO: outcome}, call.processor),
            )
            for wire in responses
        ]

    def _args(self, packet: records.PacketRecord, flow: Flow, process: Process | None) -> dict[str, Any]:
        """Return `foreign` for an answer to a client: true if its server is none of the client's resolvers."""
        if flow.role != CLIENT or process is None:
            return {}
        configured = self._resolvers.look(packet.netns, process.pid, process.start_time, packet.ts)
        return {} if flow.egress or configured is None else {"foreign": flow.source not in configured}

    def _connection(self, record: bytes) -> Captures:
        packet, payload = records.read_packet(record)
        process, _ = self._attribution.process_of(packet)
        flow = _flow(packet, "")
        args = connection_args(flow)
        topic = NET_TCP_CONNECT if packet.protocol == records.TCP else NET_UDP_CONNECT
        if packet.kind == records.CLOSED:
            topic = NET_TCP_CLOSE if packet.protocol == records.TCP else NET_UDP_CLOSE
            if (counted := records.read_bytes(payload)) is not None:
                args["bytes_sent"], args["bytes_received"] = counted
        elif packet.kind != records.CONNECT:
            topic = NET_TCP_CONNECT_RESULT
            args["connected"] = packet.kind == records.CONNECTED
            args["error"] = errno.errorcode.get(packet.error, str(packet.error)) if packet.error else ""
        return [(topic, Captured(packet.ts + self._epoch, b"", flow, process, args, packet.processor))]

    def _dns_close(self, record: bytes) -> Captures:
        packet, _ = records.read_packet(record)
        process, entry = self._attribution.process_of(packet)
        if entry is None or entry.answers:  # a server or a forwarder, whose questions are not for connections
            return []
        flow = _flow(packet, "")
        args = {"dst": flow.destination_text, "dst_port": flow.destination_port, "socket": flow.socket}
        return [(DNS_SOCKET_CLOSE, Captured(packet.ts + self._epoch, b"", flow, process, args, packet.processor))]

    def _exec(self, record: bytes) -> Captures:
        process = self._attribution.executed(record)
        if self._getaddrinfo:
            self._getaddrinfo.process_started(process.pid)
        return self._process_event(SCHED_PROCESS_EXEC, records.read_process(record), process, {})

    def _fork(self, record: bytes) -> Captures:
        head = records.read_process(record)
        process = self._attribution.forked(head)
        args = {"parent_tid": head.status, "parent_pid": head.parent, "child_tid": head.pid, "child_pid": head.pid}
        return self._process_event(SCHED_PROCESS_FORK, head, process, args)

    def _exit(self, record: bytes) -> Captures:
        head = records.read_process(record)
        process = self._attribution.exited(head)
        if process is None:
            return []
        args = {"exit_code": head.status >> 8 & 0xFF, "signal_code": head.status & 0x7F, "process_group_exit": True}
        return self._process_event(SCHED_PROCESS_EXIT, head, process, args)

    def _cgroup_change(self, record: bytes) -> Captures:
        folder = self._attribution.cgroup_changed(record)
        if folder and self._getaddrinfo:
            self._getaddrinfo.container_starting(folder)
        return []

    def _process_event(
        self, name: str, head: records.ProcessRecord, process: Process, args: dict[str, Any]
    ) -> Captures:
        return [(name, Captured(head.ts + self._epoch, b"", None, process, args, head.processor))]


def _datagrams(packet: records.PacketRecord, captured: Captured) -> Captures:
    if not packet.datagram_size:
        return [(NET_PACKET_DNS, captured)]
    payloads = records.datagrams(packet.datagram_size, captured.payload)
    return [(NET_PACKET_DNS, msgspec.structs.replace(captured, payload=payload)) for payload in payloads]


def _flow(packet: records.PacketRecord, role: str) -> Flow:
    size = 4 if packet.family == 4 else 16  # noqa: PLR2004 - the family as the program states it
    source, destination = packet.saddr[:size], packet.daddr[:size]
    if packet.kind != records.PACKET:
        source, destination = _address(packet.saddr, size) if packet.sport else b"", _address(packet.daddr, size)
    return Flow(  # by position: a packet has many fields, and names cost more than values
        source,
        packet.sport,
        destination,
        packet.dport,
        "udp" if packet.protocol == records.UDP else "tcp",
        packet.cookie,
        packet.netns,
        packet.egress != 0,
        _address(packet.meant, size) if packet.meant_port else b"",
        packet.meant_port,
        role,
    )


def _address(padded: bytes, size: int) -> bytes:
    return padded.removeprefix(V4_MAPPED) if padded.startswith(V4_MAPPED) else padded[:size]
