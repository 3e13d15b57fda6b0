"""The formats: each encodes a finding as one line. A finding arrives in tracee's shape; each other one has a module."""

from __future__ import annotations

from dnstrail.process.terminal import json_bytes
from dnstrail_findings.finding import ReceivedFinding


def tracee(finding: ReceivedFinding) -> bytes:
    """Return the map that arrived, with what explains it: `trail` and `next`."""
    return json_bytes({**finding.map, **finding.explained})
