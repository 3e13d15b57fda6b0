"""A finding as one line of text for people."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from dnstrail.process.terminal import json_line
from dnstrail_findings.cause import ExchangeEnd
from dnstrail_findings.finding import ReceivedFinding, timestamp

#: characters of a value in a line of `text` -> it is cut
LONGEST_VALUE = 256
#: bytes of a line of `text` -> it is cut
LONGEST = 2048
_SEVERITIES = ("INFO", "LOW", "MEDIUM", "HIGH")
_PLAIN = re.compile(r"[\w./:@\[\]-]+", re.ASCII)


def encode(finding: ReceivedFinding) -> bytes:
    """Return time, severity and event, then `name=value` for all that is known.

    A value with other characters than letters, digits and ._/:@[]- is quoted as in JSON, so that no name can add a
    field or a line.
    """
    shape, severity = finding.shape, finding.severity
    words = [timestamp(shape.timestamp), "UNKNOWN" if severity is None else _SEVERITIES[severity]]
    words += [_value(shape.event_name), *(f"{_value(name)}={_value(value)}" for name, value in _fields(finding))]
    return " ".join(words).encode()[:LONGEST]


def _fields(finding: ReceivedFinding) -> Iterator[tuple[str, Any]]:
    shape, cause = finding.shape, finding.cause
    trail = finding.explained.get("trail") or {}
    known = {
        "id": finding.id,
        "host": shape.host_name,
        "process": f"{shape.process_name}[{shape.process_id}]" if shape.process_id else "",
        "parent": shape.parent_process_id or "",
        "container": shape.container.name or shape.container.id,
        "unit": shape.unit,
        "client": _end(cause.client),
        "server": _end(cause.server),
        "question": cause.question.name if cause.question else "",
        **(finding.data if cause.args is not finding.data else {}),
        "trail": trail.get("path", ""),
        "rivals": " ".join(trail.get("rivals", ())),
        "coverage": "" if shape.coverage is None else f"{shape.coverage:.2f}",
        "since": timestamp(shape.since) if shape.since else "",
        "next": "; ".join(finding.explained.get("next", ())),
    }
    return ((name, value) for name, value in known.items() if value not in ("", None))


def _end(end: ExchangeEnd) -> str:
    address = f"[{end.address}]" if ":" in end.address else end.address
    return f"{address}:{end.port}" if end.address and end.port else address


def _value(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    cut = text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "..."
    return cut if _PLAIN.fullmatch(cut) else json_line(cut)
