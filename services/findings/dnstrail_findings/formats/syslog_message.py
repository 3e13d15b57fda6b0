"""A syslog message (RFC 5424) around a line."""

from __future__ import annotations

import os
import re

from dnstrail_findings.finding import ReceivedFinding, timestamp

_AUTHPRIV = 10  # facility: security and authorization messages
_SEVERITIES = (6, 5, 4, 3)  # informational, notice, warning, error; by the severity of the finding
_NOTICE = 5
_LONGEST_HOST, _LONGEST_ID = 255, 32
_ELSE = re.compile(r"[^!-~]", re.ASCII)


def message(finding: ReceivedFinding, line: bytes) -> bytes:
    """Return a message whose text is the line, of printable ASCII."""
    severity = _NOTICE if finding.severity is None else _SEVERITIES[finding.severity]
    head = [
        f"<{_AUTHPRIV * 8 + severity}>1",
        timestamp(finding.shape.timestamp),
        _word(finding.shape.host_name, _LONGEST_HOST),
        "dnstrail",
        str(os.getpid()),
        _word(finding.shape.event_name, _LONGEST_ID),
        "-",  # no structured data: the line has all values
    ]
    return " ".join(head).encode() + b" " + line


def _word(text: str, longest: int) -> str:
    """Return text as a word of the header: each character that cannot stand there becomes "_"."""
    return _ELSE.sub("_", text[:longest]) or "-"
