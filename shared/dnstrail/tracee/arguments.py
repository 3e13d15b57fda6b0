"""The arguments of an event in the order and with the types of its specification; no name twice."""

from __future__ import annotations

from typing import Any

from dnstrail.captured import Flow
from dnstrail.events import DERIVED, EVENTS, SPECIFICATIONS, Event
from dnstrail.tracee.proto_dns import shown_message

Argument = dict[str, Any]  # name, type, value
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
