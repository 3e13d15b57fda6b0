"""The attribution of an answer: the party that asked, and the evidence of who asked whom (docs/capture.md)."""

from __future__ import annotations

from dnstrail.image.admission import Verdict
from dnstrail.image.answer import CGROUP, Circumstances, ShareKey
from dnstrail.image.evidence import Evidence
from dnstrail.image.parties import share_of


def asking_share(circumstances: Circumstances, verdict: Verdict) -> ShareKey:
    """Return the party that asked: that of the asker, who need not own the socket at which the answer was captured."""
    asker = verdict.asker
    if asker is None or not asker.cgroup_id:
        return share_of(circumstances, circumstances.flow)
    return circumstances.host, CGROUP, asker.cgroup_id, asker.owner or asker.cgroup_id


def evidence_of(rdtype: int, circumstances: Circumstances, verdict: Verdict) -> Evidence:
    """Return the evidence of an answer. The asker sent the query, or received the response; it is never the server."""
    flow, process = circumstances.flow, circumstances.process
    reached = process if circumstances.asked or (flow is not None and not flow.egress) else None
    client, server = b"", b""
    if flow is not None:
        client = flow.destination
        server = flow.meant if flow.socket and not flow.egress and flow.meant else flow.source
    return Evidence(rdtype, verdict.asker or reached, client, server, verdict.matched, circumstances.foreign)
