"""A finding as an alert of the Elastic Common Schema (ECS 9)."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any, NamedTuple

from dnstrail.dns.names import address_text
from dnstrail.events.connections import CONNECTIONS
from dnstrail.process.terminal import json_bytes
from dnstrail_findings.cause import Cause, ExchangeEnd, PrintedAnswer, flags, response_code
from dnstrail_findings.finding import ReceivedFinding, timestamp

FRAMEWORK = "MITRE ATT&CK"
TACTICS = {
    "Reconnaissance": "TA0043",
    "Resource Development": "TA0042",
    "Initial Access": "TA0001",
    "Execution": "TA0002",
    "Persistence": "TA0003",
    "Privilege Escalation": "TA0004",
    "Defense Evasion": "TA0005",
    "Credential Access": "TA0006",
    "Discovery": "TA0007",
    "Lateral Movement": "TA0008",
    "Collection": "TA0009",
    "Command and Control": "TA0011",
    "Exfiltration": "TA0010",
    "Impact": "TA0040",
}
_BY_WORD = {name.lower().replace(" ", "-"): name for name in TACTICS}
_EMPTY: tuple[Any, ...] = (None, "", {}, [])
MOST_ANSWERS = 64  #: answers of a finding in ECS -> the first are printed
VERSION = "9.4.0"
RISK_SCORES = (0, 21, 47, 73)  # by severity, as Elastic's rules have them
TRANSPORTS = {one.name: one.name.split("_")[1] for one in CONNECTIONS if one.name.startswith(("net_tcp_", "net_udp_"))}


class Entry(NamedTuple):
    """A tactic or a technique; a value that is not known is ""."""

    id: str = ""
    name: str = ""


class Attack(NamedTuple):
    """A tactic, and a technique with its part before the dot (T1071 of T1071.004)."""

    tactic: Entry
    technique: Entry
    parent: str = ""


def attack_of(finding: ReceivedFinding) -> Attack:
    """Return the tactic and technique of a finding, from tracee's properties."""
    category = finding.text_of("Category")
    name = _BY_WORD.get(category.lower().replace(" ", "-"), category)
    technique = Entry(finding.text_of("external_id"), finding.text_of("Technique"))
    parent = technique.id.partition(".")[0] if "." in technique.id else ""
    return Attack(Entry(TACTICS.get(name, ""), name), technique, parent)


def first_answers(finding: ReceivedFinding) -> list[PrintedAnswer]:
    """Return the first answers of the DNS message."""
    message = finding.cause.message
    return message.answers[:MOST_ANSWERS] if message else []


def addresses(finding: ReceivedFinding) -> list[str]:
    """Return the addresses of the ends of the cause, and those of its answers, each once."""
    cause = finding.cause
    found = (cause.client.address, cause.server.address, *(answer.ip for answer in first_answers(finding)))
    return [*dict.fromkeys(text for text in found if address_text(text) is not None)]


def host_names(finding: ReceivedFinding) -> list[str]:
    """Return the names of the question, of the answers, of a connection and of its trail, each once."""
    cause = finding.cause
    of_message = [cause.question.name if cause.question else "", *(answer.cname for answer in first_answers(finding))]
    trail = finding.explained.get("trail") or {}
    found = [*map(cause.escaped, of_message), *cause.names[:MOST_ANSWERS], trail.get("dns_root", "")]
    return [*dict.fromkeys(filter(None, found))]


def encode(finding: ReceivedFinding) -> bytes:
    """Return the alert."""
    return json_bytes(without_empty(_document(finding)))


def _document(finding: ReceivedFinding) -> dict[str, Any]:
    shape, cause = finding.shape, finding.cause
    return {
        "@timestamp": timestamp(shape.timestamp),
        "ecs": {"version": VERSION},
        "message": f"{finding.title} on {shape.host_name}" if shape.host_name else finding.title,
        "event": _event(finding),
        "rule": _rule(finding),
        "threat": _threat(finding),
        "host": {"name": shape.host_name, "hostname": shape.host_name},
        "container": {
            "id": shape.container.id,
            "name": shape.container.name,
            "image": {"name": shape.container.image},
            "labels": label_fields(shape.container.labels),
        },
        **_who(finding),
        **_ends(cause),
        "network": _network(cause),
        "dns": _dns(cause, first_answers(finding)),
        "related": {"ip": addresses(finding), "hosts": host_names(finding)},
        "dnstrail": {
            "unit": shape.unit,
            "slice": shape.slice,
            "coverage": shape.coverage,
            "since": timestamp(shape.since) if shape.since else None,
            "data": finding.data if finding.cause.args is not finding.data else {},
            **finding.explained,
        },
    }


def _event(finding: ReceivedFinding) -> dict[str, Any]:
    severity = finding.severity
    return {
        "kind": "alert",
        "category": ["intrusion_detection", "network"],
        "type": ["info"],
        "action": finding.shape.event_name,
        "code": finding.signature_id,
        "id": finding.id,
        "module": "dnstrail",
        "dataset": "dnstrail.finding",
        "severity": severity,
        "risk_score": None if severity is None else RISK_SCORES[severity],
    }


def _rule(finding: ReceivedFinding) -> dict[str, Any]:
    metadata = finding.shape.metadata
    known = {"version": metadata.version, "description": metadata.description} if metadata else {}
    return {"id": finding.signature_id, "name": finding.title, **known}


def _threat(finding: ReceivedFinding) -> dict[str, Any]:
    attack = attack_of(finding)
    if not any((*attack.tactic, *attack.technique)):
        return {}
    technique: dict[str, Any] = {"id": [attack.technique.id], "name": [attack.technique.name]}
    if attack.parent:
        technique = {"id": [attack.parent], "subtechnique": technique}
    tactic = {"id": [attack.tactic.id], "name": [attack.tactic.name]}
    return {"framework": FRAMEWORK, "tactic": tactic, "technique": technique}


def _who(finding: ReceivedFinding) -> dict[str, Any]:
    shape = finding.shape
    if not shape.process_id:
        return {}
    process = {
        "pid": shape.process_id,
        "name": shape.process_name,
        "executable": shape.executable.path,
        "parent": {"pid": shape.parent_process_id or None},
        "thread": {"id": shape.thread_id or None},
    }
    return {"process": process, "user": {"id": str(shape.user_id)}}


def _ends(cause: Cause) -> dict[str, Any]:
    client, server = _end(cause.client), _end(cause.server)
    named = {**server, "domain": cause.names[0]} if cause.names else server
    return {"client": client, "source": client, "server": named, "destination": named}


def _end(end: ExchangeEnd) -> dict[str, Any]:
    address = address_text(end.address)
    return {} if address is None else {"address": address, "ip": address, "port": end.port or None}


def _network(cause: Cause) -> dict[str, Any]:
    address = address_text(cause.server.address)
    return {
        "transport": TRANSPORTS.get(cause.name, ""),
        "protocol": "dns" if cause.message else "",
        "type": "" if address is None else f"ipv{ip_address(address).version}",
        "community_id": cause.text("community_id"),
    }


def _dns(cause: Cause, answers: list[PrintedAnswer]) -> dict[str, Any]:
    message, question = cause.message, cause.question
    if message is None:
        return {}
    name = cause.escaped(question.name) if question else ""
    return {
        "id": str(message.id),
        "type": "answer" if message.qr else "query",
        "op_code": message.op_code.upper(),
        "header_flags": flags(message),
        "response_code": response_code(message) if message.qr else "",
        "question": {"name": name, "type": question.type, "class": question.cls} if question else {},
        "answers": [_answer(cause, answer) for answer in answers],
        "resolved_ip": [answer.ip for answer in answers if answer.ip],
    }


def _answer(cause: Cause, answer: PrintedAnswer) -> dict[str, Any]:
    return {
        "name": cause.escaped(answer.name),
        "type": answer.type,
        "class": answer.cls,
        "ttl": answer.ttl,
        "data": cause.escaped(answer.data),
    }


def without_empty(value: Any) -> Any:
    """Return maps and lists without null, "", and empty maps and lists."""
    if isinstance(value, dict):
        return {key: kept for key, each in value.items() if (kept := without_empty(each)) not in _EMPTY}
    if isinstance(value, list):
        return [kept for each in value if (kept := without_empty(each)) not in _EMPTY]
    return value


def label_fields(labels: dict[str, str]) -> dict[str, str]:
    """Return labels as fields of ECS: a dot in a key would make an object, and is an underscore there."""
    return {key.replace(".", "_"): value for key, value in labels.items()}
