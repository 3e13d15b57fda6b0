"""Entries as events of the Elastic Common Schema (ECS 9)."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any, Final

from dnstrail.events.facts import ANSWERED
from dnstrail.history.log.entries import LogEntry, LoggedConnection, LoggedQuestion
from dnstrail.process.terminal import json_line
from dnstrail_cli.log_formats.words import community_id_of, rcode_text, targets, unit_of
from dnstrail_findings.finding import timestamp
from dnstrail_findings.formats.ecs import VERSION, label_fields, without_empty

_SUCCESSES: Final = (ANSWERED, "no_data")


def encode_question(entry: LoggedQuestion) -> str:
    """Return a question."""
    addresses, names = targets(entry)
    document = _common(entry, entry.begun, entry.waited)
    document["event"] |= {
        "type": ["protocol", "info"],
        "action": "lookup_requested",
        "dataset": "dnstrail.dns",
        "outcome": "success" if entry.outcome in _SUCCESSES else "unknown" if entry.outcome == "unknown" else "failure",
        "reason": entry.outcome,
    }
    document["network"]["protocol"] = "dns"
    document["dns"] = {
        "type": "query" if entry.rcode is None else "answer",
        "op_code": "QUERY",
        "response_code": "" if entry.rcode is None else rcode_text(entry.rcode),
        "question": {"name": entry.name, "type": entry.type, "class": "IN"},
        "answers": [
            {"name": owner, "type": kind, "class": "IN", "ttl": ttl, "data": target}
            for owner, kind, target, ttl in entry.relations
        ],
        "resolved_ip": addresses,
    }
    document["related"] = _related(entry, addresses, [entry.name, *names])
    document["dnstrail"] = {
        "hop": entry.hop,
        "tries": entry.tries,
        "resolver": entry.resolver,
        "resolver_port": entry.resolver_port,
        "matched": entry.matched,
        "doubted": entry.doubted,
        "foreign": entry.foreign,
        **unit_of(entry),
    }
    return json_line(without_empty(document))


def encode_connection(entry: LoggedConnection) -> str:
    """Return a connection at its end, or at its failure."""
    failed = entry.connected is False
    document = _common(entry, entry.begun, entry.lasted)
    document["event"] |= {
        "type": ["connection", "start" if failed else "end"],
        "action": "connection_attempted" if failed else "connection_ended",
        "dataset": "dnstrail.connection",
        "outcome": "failure" if failed else "success",
        "reason": entry.error or entry.why,
    }
    document["source"]["bytes"], document["destination"]["bytes"] = entry.bytes_sent, entry.bytes_received
    document["destination"]["domain"] = entry.name
    document["related"] = _related(entry, [], [entry.name] if entry.name else [])
    document["dnstrail"] = {"bound": entry.bound, **unit_of(entry)}
    return json_line(without_empty(document))


def _common(entry: LogEntry, begun: int, lasted: int | None) -> dict[str, Any]:
    source, destination = _end(entry.src, entry.src_port), _end(entry.dst, entry.dst_port)
    who: dict[str, Any] = {}
    if entry.process_id:
        process = {"pid": entry.process_id, "name": entry.process_name, "executable": entry.executable}
        process["parent"] = {"pid": entry.parent_process_id or None}
        who = {"process": process, "user": {"id": str(entry.user_id)}}
    return {
        "@timestamp": timestamp(entry.timestamp),
        "ecs": {"version": VERSION},
        "event": {
            "kind": "event",
            "category": ["network"],
            "module": "dnstrail",
            "id": entry.id,
            "start": timestamp(begun),
            "end": timestamp(entry.timestamp),
            "duration": lasted,
        },
        "host": {"name": entry.host, "hostname": entry.host},
        "container": {
            "id": entry.container_id,
            "name": entry.container_name,
            "image": {"name": entry.container_image},
            "labels": label_fields(entry.container_labels),
        },
        **who,
        "client": source,
        "source": {**source},
        "server": destination,
        "destination": {**destination},
        "network": {
            "transport": entry.transport,
            "type": f"ipv{ip_address(entry.dst).version}" if entry.dst else "",
            "community_id": community_id_of(entry),
        },
    }


def _end(address: str | None, port: int | None) -> dict[str, Any]:
    return {"address": address, "ip": address, "port": port or None} if address else {}


def _related(entry: LogEntry, addresses: list[str], names: list[str]) -> dict[str, list[str]]:
    ends = [end for end in (entry.src, entry.dst) if end]
    return {"ip": [*dict.fromkeys(ends + addresses)], "hosts": [*dict.fromkeys(names)]}
