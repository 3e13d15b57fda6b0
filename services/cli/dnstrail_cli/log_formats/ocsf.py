"""Entries as DNS Activity and Network Activity of the Open Cybersecurity Schema Framework (OCSF 1.8, 4003 and 4001)."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any, Final, NamedTuple

from dnstrail import __version__
from dnstrail.history.log.entries import LogEntry, LoggedConnection, LoggedQuestion
from dnstrail.process.terminal import json_line
from dnstrail_cli.log_formats.words import community_id_of, targets, unit_of
from dnstrail_findings.formats.ecs import without_empty
from dnstrail_findings.formats.ocsf import VERSION, label_texts

_MILLISECOND: Final = 10**6  # ns
_HOSTNAME, _ADDRESS = (1, "Hostname"), (2, "IP Address")  # observables
_SUCCESS, _FAILURE, _UNKNOWN = (1, "Success"), (2, "Failure"), (0, "Unknown")
_INBOUND, _OUTBOUND, _NO_DIRECTION = (1, "Inbound"), (2, "Outbound"), (0, "Unknown")
_DIRECTIONS: Final = {"client": _OUTBOUND, "served": _INBOUND}
_PROTOCOLS: Final = {"tcp": 6, "udp": 17}  # RFC 5237
_STATUSES: Final = {"answered": _SUCCESS, "no_data": _SUCCESS, "unknown": _UNKNOWN}
_RCODES: Final = {
    0: "NoError",
    1: "FormError",
    2: "ServError",
    3: "NXDomain",
    4: "NotImp",
    5: "Refused",
    6: "YXDomain",
    7: "YXRRSet",
    8: "NXRRSet",
    9: "NotAuth",
    10: "NotZone",
    11: "DSOTYPENI",
}
_OTHER_RCODE: Final = (99, "Other")


class _Class(NamedTuple):
    """A class of events, and the fact of which it is made."""

    uid: int
    name: str
    fact: str


_DNS, _NETWORK = _Class(4003, "DNS Activity", "dns_transaction"), _Class(4001, "Network Activity", "net_connection")


def encode_question(entry: LoggedQuestion) -> str:
    """Return a question."""
    rcode = entry.rcode
    activity = (1, "Query") if rcode is None else (6, "Traffic")
    document = _common(entry, _DNS, activity, entry.begun, entry.waited)
    addresses, names = targets(entry)
    document |= _status(_STATUSES.get(entry.outcome, _FAILURE), entry.outcome)
    document |= {
        "query": {"hostname": entry.name, "type": entry.type, "class": "IN"},
        "query_time": entry.begun // _MILLISECOND,
        "answers": [
            {"rdata": target, "type": kind, "class": "IN", "ttl": ttl} for _, kind, target, ttl in entry.relations
        ],
        "connection_info": _connection(entry, _DIRECTIONS.get(entry.hop, _NO_DIRECTION)),
        "observables": _observables(entry, addresses, [entry.name, *names]),
        "unmapped": {
            "hop": entry.hop,
            "tries": entry.tries,
            "resolver": entry.resolver,
            "matched": entry.matched,
            "doubted": entry.doubted,
            "foreign": entry.foreign,
            **unit_of(entry),
        },
    }
    if rcode is not None:
        number, name = (rcode, _RCODES[rcode]) if rcode in _RCODES else _OTHER_RCODE
        document |= {"rcode_id": number, "rcode": name, "response_time": entry.timestamp // _MILLISECOND}
    return json_line(without_empty(document))


def encode_connection(entry: LoggedConnection) -> str:
    """Return a connection at its end, or at its failure."""
    activity = (2, "Close")
    if entry.connected is False:
        activity = (5, "Refuse") if entry.error == "ECONNREFUSED" else (4, "Fail")
    document = _common(entry, _NETWORK, activity, entry.begun, entry.lasted)
    document |= _status(_FAILURE if entry.connected is False else _SUCCESS, entry.error or entry.why or "")
    document["dst_endpoint"]["hostname"] = entry.name
    document |= {
        "connection_info": _connection(entry, _OUTBOUND),
        "traffic": {"bytes_out": entry.bytes_sent, "bytes_in": entry.bytes_received},
        "observables": _observables(entry, [], [entry.name] if entry.name else []),
        "unmapped": {"bound": entry.bound, **unit_of(entry)},
    }
    return json_line(without_empty(document))


def _common(entry: LogEntry, kind: _Class, activity: tuple[int, str], begun: int, lasted: int | None) -> dict[str, Any]:
    activity_id, activity_name = activity
    return {
        "activity_id": activity_id,
        "activity_name": activity_name,
        "category_uid": 4,
        "category_name": "Network Activity",
        "class_uid": kind.uid,
        "class_name": kind.name,
        "type_uid": kind.uid * 100 + activity_id,
        "type_name": f"{kind.name}: {activity_name}",
        "time": entry.timestamp // _MILLISECOND,
        "start_time": begun // _MILLISECOND,
        "end_time": entry.timestamp // _MILLISECOND,
        "duration": None if lasted is None else lasted // _MILLISECOND,
        "severity_id": 1,
        "severity": "Informational",
        "metadata": {
            "version": VERSION,
            "uid": entry.id,
            "log_name": kind.fact,
            "profiles": ["host", "container"],
            "product": {"name": "dnstrail", "vendor_name": "dnstrail", "version": __version__},
        },
        "src_endpoint": {
            **_endpoint(entry.src, entry.src_port),
            "hostname": entry.host if entry.process_id or not entry.src else "",
        },
        "dst_endpoint": _endpoint(entry.dst, entry.dst_port),
        "actor": {"process": _process(entry)},
        "device": {"type_id": 0, "hostname": entry.host} if entry.host else {},
    }


def _status(status: tuple[int, str], detail: str) -> dict[str, Any]:
    return {"status_id": status[0], "status": status[1], "status_detail": detail}


def _endpoint(address: str | None, port: int | None) -> dict[str, Any]:
    return {"ip": address, "port": port or None} if address else {}


def _connection(entry: LogEntry, direction: tuple[int, str]) -> dict[str, Any]:
    if entry.transport is None:
        return {}
    return {
        "direction_id": direction[0],
        "direction": direction[1],
        "protocol_name": entry.transport,
        "protocol_num": _PROTOCOLS.get(entry.transport),
        "community_uid": community_id_of(entry),
    }


def _process(entry: LogEntry) -> dict[str, Any]:
    if not entry.process_id:
        return {}
    name = PurePosixPath(entry.executable).name
    image = {"uid": entry.container_image, "name": entry.container_image} if entry.container_image else {}
    container: dict[str, Any] = {}
    if entry.container_id:
        container = {"uid": entry.container_id, "name": entry.container_name, "image": image}
        container["labels"] = label_texts(entry.container_labels)
    return {
        "pid": entry.process_id,
        "name": entry.process_name,
        "file": {"name": name, "path": entry.executable, "type_id": 1} if name else {},
        "parent_process": {"pid": entry.parent_process_id or None},
        "user": {"uid": str(entry.user_id)},
        "container": container,
    }


def _observables(entry: LogEntry, addresses: list[str], names: list[str]) -> list[dict[str, Any]]:
    ends = [end for end in (entry.src, entry.dst) if end]
    found = [(_HOSTNAME, name) for name in dict.fromkeys(names)]
    found += [(_ADDRESS, address) for address in dict.fromkeys(ends + addresses)]
    return [{"type_id": number, "type": kind, "value": value} for (number, kind), value in found]
