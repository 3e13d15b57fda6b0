"""Events in tracee's JSON shape (types/trace/trace.go of its v0.22), for sinks and terminals."""

from __future__ import annotations

from typing import Any

import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
from dns.rdtypes.ANY.CNAME import CNAME
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.ANY.NS import NS
from dns.rdtypes.ANY.PTR import PTR
from dns.rdtypes.ANY.TXT import TXT
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA
from dns.rdtypes.IN.SRV import SRV

from dnstrail.captured import Flow, Process
from dnstrail.events import Event
from dnstrail.signature import Finding

_EVENT_IDS = {"net_packet_dns": "2006", "net_tcp_connect": "2016"}
_FIRST_FINDING = 6000  # findings have their ids from here on, as in tracee
_SECTIONS = ("answers", "authorities", "additionals")
_INGRESS, _EGRESS = 1, 2  # trace.PacketDirection
_FLAGS = {"AA": 10, "TC": 9, "RD": 8, "RA": 7}


def event_map(event: Event, *, parse_arguments: bool = False) -> dict[str, Any]:
    """An event as tracee's map; `parse_arguments` gives codes as their names."""
    return _map(event, event.event_name, event_args(event, parse_arguments=parse_arguments))


def finding_map(finding: Finding) -> dict[str, Any]:
    """A finding as the event that it becomes: its data as arguments, with what triggered it, and the coverage then."""
    cause, metadata = finding.event, finding.metadata
    args = [{"name": name, "type": _type_of(value), "value": value} for name, value in finding.data.items()]
    if cause_args := event_args(cause, parse_arguments=True):
        triggered_by = {"name": cause.event_name, "args": cause_args, "returnValue": 0}
        args.append({"name": "triggeredBy", "type": "unknown", "value": triggered_by})
    shaped = _map(cause, metadata.event_name, args)
    shaped["coverage"] = cause.coverage
    shaped["metadata"] = {
        "Version": metadata.version,
        "Description": metadata.description,
        "Tags": list(metadata.tags) or None,
        "Properties": {**metadata.properties, "signatureID": metadata.id, "signatureName": metadata.name},
    }
    return shaped


def event_args(event: Event, *, parse_arguments: bool) -> list[dict[str, Any]]:
    """The arguments of an event: name, type and value of each."""
    args = {**event.captured.args, **event.args}
    shaped = [{"name": name, "type": _type_of(value), "value": value} for name, value in args.items()]
    flow = event.captured.flow
    if flow is not None and flow.source:
        shaped += _flow_args(flow, parse_arguments=parse_arguments)
    if event.dns is not None:
        value = proto_dns(event.dns, event.captured.payload, parse_arguments=parse_arguments)
        shaped.append({"name": "proto_dns", "type": "trace.ProtoDNS", "value": value})
    return shaped


def _flow_args(flow: Flow, *, parse_arguments: bool) -> list[dict[str, Any]]:
    """Addresses and ports; of a live packet also its direction, the role of its process, and what NAT has changed."""
    shaped: list[dict[str, Any]] = [
        {"name": "src", "type": "const char*", "value": flow.source_text},
        {"name": "dst", "type": "const char*", "value": flow.destination_text},
        {"name": "src_port", "type": "u16", "value": flow.source_port},
        {"name": "dst_port", "type": "u16", "value": flow.destination_port},
    ]
    if flow.socket:
        number, name = (_EGRESS, "egress") if flow.egress else (_INGRESS, "ingress")
        value = {"direction": name if parse_arguments else number}
        shaped.append({"name": "metadata", "type": "trace.PacketMetadata", "value": value})
    if flow.role:
        shaped.append({"name": "role", "type": "const char*", "value": flow.role})
    if flow.original is not None:
        address, port = flow.original
        shaped.append({"name": "original_dst", "type": "const char*", "value": address})
        shaped.append({"name": "original_dst_port", "type": "u16", "value": port})
    return shaped


def proto_dns(message: dns.message.Message, wire: bytes, *, parse_arguments: bool) -> dict[str, Any]:
    """A DNS message as tracee's ProtoDNS; codes as numbers, or as names."""
    flags = int(message.flags)
    opcode, rcode = message.opcode(), message.rcode()
    counts = [int.from_bytes(wire[at : at + 2]) for at in range(4, 12, 2)]
    shaped: dict[str, Any] = {"ID": message.id, "QR": flags >> 15}
    shaped["opCode"] = dns.opcode.to_text(opcode) if parse_arguments else int(opcode)
    shaped.update((name, flags >> bit & 1) for name, bit in _FLAGS.items())
    shaped["Z"] = flags >> 4 & 7
    shaped["responseCode"] = dns.rcode.to_text(rcode) if parse_arguments else int(rcode)
    shaped.update(zip(("QDCount", "ANCount", "NSCount", "ARCount"), counts, strict=True))
    shaped["questions"] = [
        _typed(rrset.name, rrset.rdtype, rrset.rdclass, parse_arguments) for rrset in message.question
    ]
    for name, section in zip(_SECTIONS, message.sections[1:], strict=True):
        shaped[name] = [
            {
                **_typed(rrset.name, rrset.rdtype, rrset.rdclass, parse_arguments),
                "TTL": int(rrset.ttl),
                **_rdata(rdata),
            }
            for rrset in section
            for rdata in rrset
        ]
    return shaped


def _map(event: Event, name: str, args: list[dict[str, Any]]) -> dict[str, Any]:
    process, flow = event.process, event.captured.flow
    return {
        "timestamp": event.timestamp,
        "processId": process.pid,
        "hostProcessId": process.pid,
        "threadId": process.thread_id,
        "hostThreadId": process.thread_id,
        "parentProcessId": process.parent_pid,
        "hostParentProcessId": process.parent_pid,
        "cgroupId": process.cgroup_id,
        "userId": process.user_id,
        "processName": process.name,
        "executable": {"path": process.path},
        "hostName": event.host_name,
        "containerId": process.container_id,
        "container": _container(process),
        "networkNamespace": flow.namespace if flow else 0,
        "eventId": _EVENT_IDS.get(name, str(_FIRST_FINDING)),
        "eventName": name,
        "argsNum": len(args),
        "returnValue": 0,
        "args": args,
    }


def _container(process: Process) -> dict[str, str]:
    """What is known of a container; {} on the host."""
    known = {"id": process.container_id, "name": process.container_name, "image": process.container_image}
    return {key: value for key, value in known.items() if value}


def _typed(name: dns.name.Name, rdtype: int, rdclass: int, as_names: bool) -> dict[str, Any]:
    shown = _shown(name)
    if as_names:
        return {
            "name": shown,
            "type": dns.rdatatype.to_text(dns.rdatatype.RdataType.make(rdtype)),
            "class": dns.rdataclass.to_text(dns.rdataclass.RdataClass.make(rdclass)),
        }
    return {"name": shown, "type": int(rdtype), "class": int(rdclass)}


def _rdata(rdata: dns.rdata.Rdata) -> dict[str, Any]:
    """The one field that tracee fills for a type; the presentation form (RFC 1035, section 5) for all others."""
    match rdata:
        case A() | AAAA():
            return {"IP": rdata.address}
        case CNAME() | NS() | PTR():
            return {dns.rdatatype.to_text(rdata.rdtype): _shown(rdata.target)}
        case MX():
            return {"MX": {"preference": rdata.preference, "name": _shown(rdata.exchange)}}
        case SRV():
            numbers = {"priority": rdata.priority, "weight": rdata.weight, "port": rdata.port}
            return {"SRV": {**numbers, "name": _shown(rdata.target)}}
        case TXT():
            return {"TXTs": [part.decode("utf-8", "replace") for part in rdata.strings]}
        case _:
            return {"rdata": rdata.to_text()}


def _shown(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True)


def _type_of(value: object) -> str:
    """The type of an argument as tracee writes it."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "long"
    if isinstance(value, list):
        return "[]string"
    return "const char*" if isinstance(value, str) else "unknown"
