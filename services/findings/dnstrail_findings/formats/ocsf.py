"""A finding as a Detection Finding of the Open Cybersecurity Schema Framework (OCSF 1.8, class 2004)."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from dnstrail import __version__
from dnstrail.dns.names import address_text
from dnstrail.process.terminal import json_bytes
from dnstrail.tracee.codes import OPCODES
from dnstrail_findings.cause import Cause, ExchangeEnd
from dnstrail_findings.finding import ReceivedFinding, timestamp
from dnstrail_findings.formats.ecs import TRANSPORTS, addresses, attack_of, host_names, without_empty

VERSION = "1.8.0"
_SEVERITIES = ((1, "Informational"), (2, "Low"), (3, "Medium"), (4, "High"))
_UNKNOWN_SEVERITY = (0, "Unknown")
_RULE, _SERVER_UNKNOWN, _REGULAR_FILE, _OUTBOUND = 1, 0, 1, 2
_HOSTNAME, _ADDRESS = 1, 2  # types of observables
_MILLISECOND = 10**6  # ns
_PROTOCOLS = {"tcp": 6, "udp": 17}  # RFC 5237
_OPCODES = {words: number for number, words in OPCODES.items()}


def encode(finding: ReceivedFinding) -> bytes:
    """Return the detection finding."""
    return json_bytes(without_empty(_document(finding)))


def _document(finding: ReceivedFinding) -> dict[str, Any]:
    shape = finding.shape
    severity_id, severity = _UNKNOWN_SEVERITY if finding.severity is None else _SEVERITIES[finding.severity]
    return {
        "activity_id": 1,
        "activity_name": "Create",
        "category_uid": 2,
        "category_name": "Findings",
        "class_uid": 2004,
        "class_name": "Detection Finding",
        "type_uid": 200401,
        "type_name": "Detection Finding: Create",
        "time": shape.timestamp // _MILLISECOND,
        "severity_id": severity_id,
        "severity": severity,
        "status_id": 1,
        "status": "New",
        "is_alert": True,
        "message": f"{finding.title} on {shape.host_name}" if shape.host_name else finding.title,
        "metadata": _metadata(finding),
        "finding_info": _finding_info(finding),
        "evidences": [_evidence(finding)],
        "actor": {"process": _process(finding)},
        "device": {"type_id": _SERVER_UNKNOWN, "hostname": shape.host_name} if shape.host_name else {},
        "observables": _observables(finding),
        "unmapped": _unmapped(finding),
    }


def _metadata(finding: ReceivedFinding) -> dict[str, Any]:
    return {
        "version": VERSION,
        "uid": finding.id,
        "log_name": "findings",
        "event_code": finding.shape.event_name,
        "profiles": ["host", "container"],
        "product": {"name": "dnstrail", "vendor_name": "dnstrail", "version": __version__},
    }


def _finding_info(finding: ReceivedFinding) -> dict[str, Any]:
    metadata, seen = finding.shape.metadata, finding.shape.timestamp // _MILLISECOND
    analytic = {"type_id": _RULE, "type": "Rule", "uid": finding.signature_id, "name": finding.title}
    return {
        "uid": finding.id or f"{finding.shape.event_name}-{finding.shape.timestamp}",
        "title": finding.title,
        "desc": metadata.description if metadata else "",
        "analytic": {**analytic, "version": metadata.version if metadata else ""},
        "attacks": [_attack(finding)],
        "data_sources": ["dnstrail"],
        "created_time": seen,
        "first_seen_time": seen,
        "last_seen_time": seen,
    }


def _attack(finding: ReceivedFinding) -> dict[str, Any]:
    attack = attack_of(finding)
    technique = {"uid": attack.technique.id, "name": attack.technique.name}
    parts = {"technique": {"uid": attack.parent}, "sub_technique": technique} if attack.parent else {}
    return {"tactic": {"uid": attack.tactic.id, "name": attack.tactic.name}, "technique": technique, **parts}


def _evidence(finding: ReceivedFinding) -> dict[str, Any]:
    cause = finding.cause
    return {
        "query": _query(cause),
        "src_endpoint": _endpoint(cause.client),
        "dst_endpoint": {**_endpoint(cause.server), "hostname": cause.names[0] if cause.names else ""},
        "connection_info": _connection(cause),
        "process": _process(finding),
        "container": _container(finding),
    }


def _query(cause: Cause) -> dict[str, Any]:
    if cause.message is None or cause.question is None or not cause.question.name:
        return {}
    return {
        "hostname": cause.escaped(cause.question.name),
        "type": cause.question.type,
        "class": cause.question.cls,
        "packet_uid": cause.message.id,
        "opcode": cause.message.op_code,
        "opcode_id": _OPCODES.get(cause.message.op_code),
    }


def _endpoint(end: ExchangeEnd) -> dict[str, Any]:
    address = address_text(end.address)
    return {} if address is None else {"ip": address, "port": end.port or None}


def _connection(cause: Cause) -> dict[str, Any]:
    transport = TRANSPORTS.get(cause.name)
    if transport is None:
        return {}
    return {
        "direction_id": _OUTBOUND,
        "direction": "Outbound",
        "protocol_name": transport,
        "protocol_num": _PROTOCOLS[transport],
        "community_uid": cause.text("community_id"),
    }


def _process(finding: ReceivedFinding) -> dict[str, Any]:
    shape = finding.shape
    if not shape.process_id:
        return {}
    path = shape.executable.path
    name = PurePosixPath(path).name
    return {
        "pid": shape.process_id,
        "name": shape.process_name,
        "file": {"name": name, "path": path, "type_id": _REGULAR_FILE} if name else {},
        "parent_process": {"pid": shape.parent_process_id or None},
        "user": {"uid": str(shape.user_id)},
        "container": _container(finding),
    }


def _container(finding: ReceivedFinding) -> dict[str, Any]:
    container = finding.shape.container
    if not container.id:
        return {}
    image = {"uid": container.image, "name": container.image} if container.image else {}
    labels = label_texts(container.labels)
    return {"uid": container.id, "name": container.name, "image": image, "labels": labels}


def _observables(finding: ReceivedFinding) -> list[dict[str, Any]]:
    names = [{"type_id": _HOSTNAME, "type": "Hostname", "value": name} for name in host_names(finding)]
    return names + [{"type_id": _ADDRESS, "type": "IP Address", "value": each} for each in addresses(finding)]


def _unmapped(finding: ReceivedFinding) -> dict[str, Any]:
    shape = finding.shape
    return {
        "unit": shape.unit,
        "slice": shape.slice,
        "coverage": shape.coverage,
        "since": timestamp(shape.since) if shape.since else None,
        "data": finding.data if finding.cause.args is not finding.data else {},
        **finding.explained,
    }


def label_texts(labels: dict[str, str]) -> list[str]:
    """Return labels as texts of OCSF: KEY=VALUE."""
    return [f"{key}={value}" for key, value in labels.items()]
