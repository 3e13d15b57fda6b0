"""An event, or a finding, with all the keys of tracee's trace.Event, in its order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from dnstrail.captured import Flow, Process
from dnstrail.events import DERIVED, EVENTS, SPECIFICATIONS, Event
from dnstrail.signature import Finding, SignatureMetadata
from dnstrail.tracee.proto_dns import shown_message

Argument = dict[str, Any]  # name, type, value
_FIRST_ID = 6100  # of the signatures that state none
_OURS = ("networkNamespace", "unit", "slice")  # the keys of an event that tracee has not
_INGRESS, _EGRESS = 1, 2  # trace.PacketDirection
_DIRECTIONS = {_INGRESS: "ingress", _EGRESS: "egress"}
_OF_VALUES = ("bool", "int", "const char*")  # the types that follow from values
# Types by name, for an event without a specification: a finding has the arguments of the event that led to it.
_TYPES = {
    field.name: field.type for one in reversed(SPECIFICATIONS) for field in one.fields if field.type not in _OF_VALUES
}


def event_args(event: Event, *, parse_arguments: bool) -> list[Argument]:
    """Return the arguments of an event: name, type and value of each.

    `parse_arguments` gives the direction of a packet as a word instead of tracee's number. It changes nothing else:
    tracee writes the codes of a DNS message as strings in any case.
    """
    known = EVENTS.get(event.event_name)
    derived = event.event_name in DERIVED
    values = dict(event.args) if derived else _values(event, parse_arguments=parse_arguments)
    specified = [
        {"name": field.name, "type": field.type, "value": values.pop(field.name)}
        for field in (known.fields if known else ())
        if field.name in values
    ]
    return specified + [
        {"name": name, "type": _TYPES.get(name) or _type_of(value), "value": value} for name, value in values.items()
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
        message, reason = shown_message(event.captured.payload)
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


def _type_of(value: object) -> str:
    """Return the type of an argument that the specification of the event does not have, by its value."""
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


def event_map(event: Event, *, parse_arguments: bool = False) -> dict[str, Any]:
    """Return an event as tracee's map. `parse_arguments`: see `event_args`."""
    args = event_args(event, parse_arguments=parse_arguments)
    return _map(event, event.event_name, _event_id(event.event_name, {}), args)


def signature_ids(signatures: Iterable[SignatureMetadata]) -> Mapping[str, int]:
    """Return the event ids of signatures by the names of their events.

    Those that state no id are numbered in the order of their event names. Two workers that load the same signatures
    therefore agree, whatever the order of loading. Two signatures that report the same event share its id.
    """
    # of two with one event, the greater: the id that one of them states
    stated = {one.event_name: one.event_id for one in sorted(signatures, key=lambda one: one.event_id)}
    others = sorted(name for name, number in stated.items() if not number)
    return MappingProxyType({**stated, **{name: number for number, name in enumerate(others, _FIRST_ID)}})


def finding_map(finding: Finding, signatures: Mapping[str, int], since: int | None = None) -> dict[str, Any]:
    """Return a finding as the event that it becomes.

    Its data are the arguments. `triggeredBy` is the event that led to it. `coverage` is the part of the events of the
    last seconds that had reached the signature by then. `signatures` holds the ids of the events of all signatures.
    `since` is the wall time (ns) since when the worker has received all events of the actor, None if it is unknown.
    `mark` is the moment of the event, by which a lookup about it is answered.
    """
    cause, metadata = finding.event, finding.metadata
    args = finding_args(finding.data)
    if cause_args := event_args(cause, parse_arguments=True):
        triggered_by = {
            "id": _event_id(cause.event_name, signatures),
            "name": cause.event_name,
            "args": cause_args,
            "returnValue": 0,
        }
        args.append({"name": "triggeredBy", "type": "unknown", "value": triggered_by})
    shaped = _map(cause, metadata.event_name, _event_id(metadata.event_name, signatures), args)
    own = {
        **{name: shaped.pop(name) for name in _OURS},
        "coverage": cause.coverage,
        "findingId": finding.id,
        "since": since,
        "mark": _mark(cause),
    }
    shaped["metadata"] = {
        "Version": metadata.version,
        "Description": metadata.description,
        "Tags": list(metadata.tags) or None,
        "Properties": {**metadata.properties, "signatureID": metadata.id, "signatureName": metadata.name},
    }
    return shaped | own


def _mark(event: Event) -> dict[str, Any] | None:
    """Return the moment of an event: start and turn of its probe, and the time on the clock of the probe."""
    if event.mark is None:
        return None
    start, turn = event.mark
    return {"start": start, "turn": turn, "time": event.captured.timestamp}


def _event_id(name: str, signatures: Mapping[str, int]) -> int:
    """Return the id of an event, or 0 if it is neither specified nor an event of these signatures."""
    known = EVENTS.get(name)
    return known.id if known else signatures.get(name, 0)


def _map(event: Event, name: str, number: int, args: list[Argument]) -> dict[str, Any]:
    """Return the map. A field that dnstrail does not capture has the value that tracee writes for an absent one."""
    process, flow = event.process, event.captured.flow
    return {
        "timestamp": event.timestamp,
        "threadStartTime": process.start_time + event.difference if process.start_time else 0,
        "processorId": event.captured.processor,
        "processId": process.pid,
        "cgroupId": process.cgroup_id,
        "threadId": process.thread_id,
        "parentProcessId": process.parent_pid,
        "hostProcessId": process.pid,
        "hostThreadId": process.thread_id,
        "hostParentProcessId": process.parent_pid,
        "userId": process.user_id,
        "mountNamespace": process.mount_namespace,
        "pidNamespace": process.pid_namespace,
        "processName": process.name,
        "executable": {"path": process.path},
        "hostName": event.host_name,
        "containerId": process.container_id,
        "container": _container(process),
        "kubernetes": {},
        "eventId": str(number),
        "eventName": name,
        "matchedPolicies": [""],
        "argsNum": len(args),
        "returnValue": 0,
        "syscall": "",
        "stackAddresses": [0],
        "contextFlags": {"containerStarted": bool(process.container_id), "isCompat": False},
        "threadEntityId": 0,
        "processEntityId": 0,
        "parentEntityId": 0,
        "args": args,
        "networkNamespace": flow.namespace if flow else 0,
        "unit": process.unit,
        "slice": process.slice,
    }


def _container(process: Process) -> dict[str, Any]:
    """Return the known fields of a container; {} on the host. Tracee has no `labels`."""
    known = {
        "id": process.container_id,
        "name": process.container_name,
        "image": process.container_image,
        "labels": dict(process.container_labels),
    }
    return {key: value for key, value in known.items() if value}
