"""Events of other tools about one connection, in the shapes of their documentation."""

from __future__ import annotations

import json
from datetime import UTC, datetime

CONTAINER = "0123456789abcdef" * 4
CLIENT, PORT, SOURCE_PORT, PROCESS = "192.0.2.100", 443, 40000, 4711
OF_PROCESS = {"process": PROCESS}
OF_CLIENT = {"client": CLIENT, "source_port": SOURCE_PORT}
_SECOND = 1_000_000_000


def rfc3339(at_ns: int, digits: int, zone: str = "Z") -> str:
    """Return a time in UTC with so many digits of its fraction."""
    fraction = f".{at_ns % _SECOND:09}"[: digits + 1] if digits else ""
    return f"{datetime.fromtimestamp(at_ns // _SECOND, UTC):%Y-%m-%dT%H:%M:%S}{fraction}{zone}"


def tool_events(server: str, at_ns: int) -> dict[str, tuple[dict, dict]]:
    """Return an event of each form, and what it states of its connection beside server and port."""
    nano, micro = rfc3339(at_ns, 9), rfc3339(at_ns, 6, "+0000")
    ends = {"src_ip": CLIENT, "src_port": SOURCE_PORT, "dest_ip": server, "dest_port": PORT}
    back = {"src_ip": server, "src_port": PORT, "dest_ip": CLIENT, "dest_port": SOURCE_PORT}
    falco = {"output": "Outbound", "priority": "Notice", "rule": "Outbound", "source": "syscall", "time": nano}
    socket = {"family": "AF_INET", "type": "SOCK_STREAM", "protocol": "IPPROTO_TCP", "saddr": CLIENT, "daddr": server}
    args = [
        {"name": "dst", "type": "const char*", "value": server},
        {"name": "dst_port", "type": "int", "value": PORT},
        {"name": "dst_dns", "type": "const char **", "value": []},
    ]
    remote = {"sa_family": "AF_INET", "sin_addr": server, "sin_port": str(PORT)}
    tracee = {"timestamp": at_ns, "processId": 7, "hostProcessId": PROCESS, "processName": "curl", "containerId": ""}
    pod = {"namespace": "default", "name": "web", "container": {"id": f"containerd://{CONTAINER}", "name": "web"}}
    both = {**OF_PROCESS, **OF_CLIENT}
    return {
        "falco": (
            {**falco, "output_fields": {"fd.sip": server, "fd.sport": PORT, "fd.cip": CLIENT, "proc.pid": PROCESS}},
            {**OF_PROCESS, "client": CLIENT},
        ),
        "falco, by fd.name": (
            {**falco, "output_fields": {"fd.name": f"{CLIENT}:{SOURCE_PORT}->{server}:{PORT}", "proc.pid": PROCESS}},
            both,
        ),
        "falco, the remote end": (
            {**falco, "output_fields": {"fd.rip": server, "fd.rport": PORT, "container.full_id": CONTAINER}},
            {"container": CONTAINER},
        ),
        "tetragon": (
            {
                "process_kprobe": {
                    "process": {"exec_id": "bm9kZQ==", "pid": PROCESS, "binary": "/usr/bin/curl", "pod": pod},
                    "parent": {"pid": 1},
                    "function_name": "tcp_connect",
                    "args": [{"int_arg": 3}, {"sock_arg": {**socket, "sport": SOURCE_PORT, "dport": PORT}}],
                },
                "node_name": "node",
                "time": nano,
            },
            {**both, "container": CONTAINER},
        ),
        "tetragon, a socket address": (
            {
                "process_lsm": {
                    "process": {"pid": PROCESS, "docker": CONTAINER[:31]},
                    "function_name": "socket_connect",
                    "args": [{"sockaddr_arg": {"family": "AF_INET", "addr": server, "port": PORT}}],
                },
                "time": nano,
            },
            OF_PROCESS,
        ),
        "suricata": ({"timestamp": micro, "flow_id": 1, "event_type": "tls", **ends, "proto": "TCP"}, OF_CLIENT),
        "suricata, a packet to the client": (
            {"timestamp": micro, "event_type": "alert", **back, "direction": "to_client", "alert": {"signature": "x"}},
            OF_CLIENT,
        ),
        "suricata, with its flow": (
            {"timestamp": rfc3339(at_ns + 90 * _SECOND, 6, "+0000"), **back, "flow": {**ends, "start": micro}},
            OF_CLIENT,
        ),
        "zeek": (
            {
                "ts": at_ns / _SECOND,
                "uid": "CHhAvVGS1DHFjwGM9",
                "id.orig_h": CLIENT,
                "id.orig_p": SOURCE_PORT,
                "id.resp_h": server,
                "id.resp_p": PORT,
                "proto": "tcp",
            },
            OF_CLIENT,
        ),
        "zeek, ISO 8601": ({"ts": rfc3339(at_ns, 6), "id.resp_h": server, "id.resp_p": PORT}, {}),
        "tracee": ({**tracee, "eventName": "net_tcp_connect", "args": args}, OF_PROCESS),
        "tracee, a socket address": (
            {**tracee, "eventName": "security_socket_connect", "args": [{"name": "remote_addr", "value": remote}]},
            OF_PROCESS,
        ),
        "tracee, v1beta1": (
            {
                "timestamp": {"seconds": at_ns // _SECOND, "nanos": at_ns % _SECOND},
                "name": "net_tcp_connect",
                "workload": {"process": {"pid": {"value": 7}, "host_pid": {"value": PROCESS}}},
                "data": [{"name": "dst", "str": server}, {"name": "dst_port", "u_int32": PORT}],
            },
            OF_PROCESS,
        ),
    }


def line_of(event: dict) -> bytes:
    """Return an event as a line, with spaces that an encoder would not write."""
    return json.dumps(event, separators=(" , ", ": "), ensure_ascii=False).encode() + b"\n"
