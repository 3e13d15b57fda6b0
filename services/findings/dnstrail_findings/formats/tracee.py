"""A finding in tracee's shape, with what explains it."""

from __future__ import annotations

from dnstrail.process.terminal import json_line
from dnstrail_findings.finding import ReceivedFinding


def encode(finding: ReceivedFinding) -> bytes:
    """Return the map that arrived, with `trail` and `next`."""
    return json_line({**finding.map, **finding.explained}).encode()
