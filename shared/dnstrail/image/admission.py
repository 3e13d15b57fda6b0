"""Admission: matches responses with captured queries, and decides which unmatched ones count (docs/capture.md)."""

from __future__ import annotations

from collections import Counter
from typing import Final

import msgspec

from dnstrail.captured import Flow, Process
from dnstrail.dns.header import Header
from dnstrail.errors import SettingsError
from dnstrail.image.answer import Circumstances, Edge, PartyKey
from dnstrail.image.copies import Copies, FirstAnswers, Packet, conflicts
from dnstrail.image.parties import Doubts, party_of
from dnstrail.image.queries import ANY, Address, Key, Queries, Query, address_of, servers_of

POLICIES: Final = ("auto", "accept", "reject")


class Verdict(msgspec.Struct, gc=False):
    """The decision on a response.

    `matched` states that it answers a captured query, and `asker` is the process that sent that query. `doubted` states
    that it is unmatched, and counts only because events of its party were lost. `copy` marks a copy of a response that
    was admitted, and `packet` is what all copies share. `again` states that it answers a query a second
    time; `key` and `server` identify the query, which was sent at `asked`.
    """

    party: PartyKey
    admitted: bool = False
    matched: bool = False
    asker: Process | None = None
    doubted: bool = False
    copy: bool = False
    again: bool = False
    key: Key = ()
    asked: int = 0
    server: Address = ANY
    packet: Packet | None = None


class Admission:
    """The queries of the last 30 s, and a verdict for each response. Stamps (ns) come with the messages.

    `counters` counts verdicts (`matched`, `unmatched_accepted`, `unmatched_rejected`), `copies`, reasons
    (`unmatched_*`) and evictions (`pending_full`). A start of capture is a loss of all parties: the owner calls `gap`.

    Raises:
        SettingsError: `unmatched` is none of POLICIES.
    """

    def __init__(self, unmatched: str = "auto") -> None:
        if unmatched not in POLICIES:
            raise SettingsError(f"dnscache unmatched: {unmatched!r} is none of {', '.join(POLICIES)}")
        self.unmatched = unmatched
        self.counters: Counter[str] = Counter()
        self.doubts = Doubts(self.counters)
        self.queries = Queries(self.doubts, self.counters)
        self.first_answers = FirstAnswers()
        self._copies = Copies()

    def asked(self, stamp: int, header: Header, payload: bytes, circumstances: Circumstances) -> None:
        """Note a query."""
        flow = circumstances.flow
        if flow is None:
            return
        key, client = _keys(flow, address_of(flow.source, flow.source_port), header.question, clients_own=flow.egress)
        query = self.queries.find(key, client)
        servers, digest = servers_of(flow), hash(payload)
        if query is None or query.key != key:
            side = party_of(circumstances, flow), not flow.socket or flow.egress
            query = Query(key, client, side, self.queries.sender(stamp, client))
        elif query.is_copy(stamp, digest, servers):
            return
        if flow.egress and circumstances.process is not None:
            query.asker = circumstances.process
        self.queries.note(query, stamp, digest, servers)

    def answered(self, stamp: int, header: Header, payload: bytes, circumstances: Circumstances) -> Verdict:
        """Return the verdict on a response. It ends the wait of its query, whatever it contains."""
        flow = circumstances.flow
        verdict = Verdict(party_of(circumstances, flow))
        if circumstances.asked:
            self.counters["matched"] += 1
            verdict.admitted = verdict.matched = True
            return verdict
        if flow is None:
            self._judge(verdict, stamp, circumstances, sent=True)
            return verdict
        client_end = address_of(flow.destination, flow.destination_port)
        key, client = _keys(flow, client_end, header.question, clients_own=not flow.egress)
        server = ANY if flow.socket and flow.egress else address_of(flow.source, flow.source_port)
        query = self.queries.find(key, client)
        verdict.key, verdict.server = key if query is None else query.key, server
        packet, new = self._copies.find_or_add(hash((payload, client_end)), stamp)
        verdict.packet, verdict.copy = packet, packet.kept
        socket, reason = (flow.socket, flow.namespace), "unmatched_query"
        if query is not None and socket not in packet.sockets:
            reason = query.end_wait(stamp, server)
        if query is not None and not reason:
            packet.sockets.append(socket)
            if not query.waits:
                self.queries.drop(query)
            verdict.matched, verdict.admitted, verdict.asker = True, not packet.kept, query.asker
            verdict.asked = query.ended
            if packet.kept:
                self.first_answers.note(verdict.key, server, query.ended, packet.edges, stamp)
        if verdict.copy or verdict.matched:
            self.counters["copies" if verdict.copy else "matched"] += 1
            return verdict
        verdict.again = new and self.first_answers.find(verdict.key, server, stamp) is not None
        self.counters["unmatched_repeated" if verdict.again else reason] += 1
        self._judge(verdict, stamp, circumstances, sent=not flow.socket or not flow.egress)
        return verdict

    def note(self, verdict: Verdict, stamp: int, edges: tuple[Edge, ...]) -> bool:
        """Note the relations of a response, and return whether they conflict with those of the first response.

        A second response to one query conflicts if it has no target in common with the first.
        """
        if verdict.admitted and verdict.packet is not None:
            verdict.packet.kept, verdict.packet.edges = True, edges
        if verdict.again:
            return conflicts(self.first_answers.find(verdict.key, verdict.server, stamp) or (), edges)
        if verdict.matched and verdict.key:
            self.first_answers.note(verdict.key, verdict.server, verdict.asked, edges, stamp)
        return False

    def gap(self, stamp: int, host: str = "", cgroup: int = 0) -> None:
        """Note that the party with this cgroup lost events, or all parties of the host (cgroup 0), or all (host "")."""
        if cgroup:
            for sent in (True, False):
                self.doubts.note(((host, "cgroup", cgroup), sent), stamp)
        else:
            self.doubts.note_all(stamp, host)

    def _judge(self, verdict: Verdict, stamp: int, circumstances: Circumstances, *, sent: bool) -> None:
        """Decide on a response that matches no query; `sent` states that its party would have sent the query."""
        flow = circumstances.flow
        verdict.admitted = self.unmatched == "accept"
        if self.unmatched == "auto":
            seen = circumstances.live and flow is not None and flow.socket != 0
            verdict.doubted = seen and self.doubts.is_doubted((verdict.party, sent), stamp)
            verdict.admitted = verdict.doubted or not seen
        self.counters["unmatched_accepted" if verdict.admitted else "unmatched_rejected"] += 1


def _keys(flow: Flow, client: Address, question: bytes, *, clients_own: bool) -> tuple[Key, Key]:
    """Return the key of a query at its socket, and its key by the client's address.

    A client's own socket identifies it alone, since NAT may change its address. A server's socket serves many clients
    and needs their address, too. Without a socket both keys are the same.
    """
    by_client = (flow.transport, client, question)
    if not flow.socket:
        return by_client, by_client
    if clients_own:
        return (flow.socket, flow.namespace, question), by_client
    return (flow.socket, flow.namespace, *by_client), by_client
