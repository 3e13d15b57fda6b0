"""The attribution of an answer: who asked, whose share its work is, and the evidence (docs/inside/image.md)."""

from __future__ import annotations

from dnstrail.image.admission import Verdict
from dnstrail.image.answer import CGROUP, CLIENT, Circumstances, PartyKey, ShareKey
from dnstrail.image.evidence import Evidence
from dnstrail.image.parties import owner_of, party_of, share_of


def asking_share(circumstances: Circumstances, verdict: Verdict) -> ShareKey:
    """Return the party that asked: that of the asker, who need not own the socket at which the answer was captured."""
    asker = verdict.asker
    if asker is None or not asker.cgroup_id:
        return share_of(circumstances, circumstances.flow)
    return circumstances.host, CGROUP, asker.cgroup_id, asker.owner or asker.cgroup_id


def sharing(circumstances: Circumstances, verdict: Verdict) -> tuple[PartyKey, PartyKey]:
    """Return the owner and the party whose share the work of an answer is: those of the asker.

    Where the asker is unknown, at the socket of a server or without a socket, they are the client by its address.
    """
    flow, asker = circumstances.flow, verdict.asker
    if asker is not None and asker.cgroup_id:
        circumstances, flow = Circumstances(process=asker, host=circumstances.host), None
    elif flow is not None and (flow.egress if flow.socket else circumstances.process is None):
        client = circumstances.host, CLIENT, int.from_bytes(flow.destination, "big")
        return client, client
    return owner_of(circumstances, flow), party_of(circumstances, flow)


def evidence_of(rdtype: int, circumstances: Circumstances, verdict: Verdict) -> Evidence:
    """Return the evidence of an answer. The asker sent the query, or received the response; it is never the server."""
    flow, process = circumstances.flow, circumstances.process
    reached = process if circumstances.asked or (flow is not None and not flow.egress) else None
    client, server = b"", b""
    if flow is not None:
        client = flow.destination
        server = flow.meant if flow.socket and not flow.egress and flow.meant else flow.source
    asker, host = verdict.asker or reached, circumstances.host
    return Evidence(rdtype, asker, client, server, verdict.matched, circumstances.foreign, host)
