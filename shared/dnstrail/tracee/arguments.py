"""The arguments of an event: those of tracee in its order and with its types, then ours; no name twice."""

from __future__ import annotations

from typing import Any

from dnstrail.captured import Flow
from dnstrail.events import (
    DERIVED,
    DNS_ANSWER_CONFLICT,
    DNS_SOCKET_CLOSE,
    NET_PACKET_DNS,
    NET_TCP_CLOSE,
    NET_TCP_CONNECT,
    NET_TCP_CONNECT_RESULT,
    NET_UDP_CLOSE,
    NET_UDP_CONNECT,
    Event,
)
from dnstrail.tracee.proto_dns import proto_dns

Argument = dict[str, Any]  # name, type, value
_INGRESS, _EGRESS = 1, 2  # trace.PacketDirection
_DIRECTIONS = {_INGRESS: "ingress", _EGRESS: "egress"}
_PACKET = ("src", "dst", "src_port", "dst_port", "metadata", "proto_dns")
_CONNECT = ("dst", "dst_port", "dst_dns")
_ORDERS = {
    NET_PACKET_DNS: _PACKET,
    DNS_ANSWER_CONFLICT: _PACKET,
    NET_TCP_CONNECT: _CONNECT,
    NET_UDP_CONNECT: _CONNECT,
    NET_TCP_CONNECT_RESULT: _CONNECT,
    NET_TCP_CLOSE: _CONNECT,
    NET_UDP_CLOSE: _CONNECT,
    DNS_SOCKET_CLOSE: _CONNECT,
}
_TYPES = {
    "src_port": "u16",
    "dst_port": "u16",
    "original_dst_port": "u16",
    "dst_dns": "const char **",
    "bytes_sent": "u64",
    "bytes_received": "u64",
    "exit_code": "long",
    "metadata": "trace.PacketMetadata",
    "proto_dns": "trace.ProtoDNS",
    "dns_questions": "[]trace.DnsQueryData",
    "dns_response": "[]trace.DnsResponseData",
}
_TYPES_OF_EVENTS = {
    (NET_TCP_CONNECT, "dst_port"): "int",
    (NET_UDP_CONNECT, "dst_port"): "int",
    (NET_TCP_CONNECT_RESULT, "dst_port"): "int",
    (NET_TCP_CLOSE, "dst_port"): "int",
    (NET_UDP_CLOSE, "dst_port"): "int",
    (DNS_SOCKET_CLOSE, "dst_port"): "int",
    **{(name, "metadata"): "trace.PktMeta" for name in DERIVED},
}


def event_args(event: Event, *, parse_arguments: bool) -> list[Argument]:
    """Return the arguments of an event: name, type and value of each.

    `parse_arguments` gives the direction of a packet as a word instead of tracee's number. It changes nothing else:
    tracee writes the codes of a DNS message as strings in any case.
    """
    name = event.event_name
    values = event.args if name in DERIVED else _values(event, parse_arguments=parse_arguments)
    ordered = {argument: values[argument] for argument in _ORDERS.get(name, ()) if argument in values} | values
    return [
        {"name": argument, "type": _type_of(name, argument, value), "value": value}
        for argument, value in ordered.items()
    ]


def finding_args(data: dict[str, Any]) -> list[Argument]:
    """Return the data of a finding as arguments, with the types that tracee gives them (pkg/ebpf/finding.go)."""
    return [{"name": name, "type": _type_of_datum(value), "value": value} for name, value in data.items()]


def _values(event: Event, *, parse_arguments: bool) -> dict[str, Any]:
    """Return the values by name: those of the flow, those of the source, those that a worker added, the message."""
    flow, values = event.captured.flow, {}
    if flow is not None and flow.source:
        values = _flow_values(flow, parse_arguments=parse_arguments)
    values |= {**event.captured.args, **event.args}
    if event.captured.payload:
        message, reason = proto_dns(event.captured.payload)
        values |= {} if message is None else {"proto_dns": message}
        values |= {"proto_dns_error": reason} if reason else {}
    return values


def _flow_values(flow: Flow, *, parse_arguments: bool) -> dict[str, Any]:
    """Return the addresses; for a live packet also its direction, the role of its process, and what NAT changed."""
    values: dict[str, Any] = {
        "src": flow.source_text,
        "dst": flow.destination_text,
        "src_port": flow.source_port,
        "dst_port": flow.destination_port,
    }
    if flow.socket:
        direction = _EGRESS if flow.egress else _INGRESS
        values["metadata"] = {"direction": _DIRECTIONS[direction] if parse_arguments else direction}
    if flow.role:
        values["role"] = flow.role
    if flow.original is not None:
        values["original_dst"], values["original_dst_port"] = flow.original
    return values


def _type_of(event: str, argument: str, value: object) -> str:
    """Return the type of an argument as tracee's definition of the event has it; of ours by its value."""
    known = _TYPES_OF_EVENTS.get((event, argument)) or _TYPES.get(argument)
    if known is not None:
        return known
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, list):
        return "const char**"
    return "const char*" if isinstance(value, str) else "unknown"


def _type_of_datum(value: object) -> str:
    for kind, name in ((bool, "bool"), (int, "int"), (float, "long double"), (str, "const char *")):
        if isinstance(value, kind):
            return name
    return "unknown"
