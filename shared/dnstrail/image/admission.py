"""Admission: matches responses with captured queries, and decides which unmatched ones count (docs/inside/image.md)."""

from __future__ import annotations

from typing import Final

from dnstrail.captured import Flow, Process
from dnstrail.dns.header import Header
from dnstrail.errors import SettingsError
from dnstrail.image.answer import CGROUP, Circumstances, Edge
from dnstrail.image.bounds import Bounds
from dnstrail.image.copies import Copies, Packet, conflicts
from dnstrail.image.counts import Counts
from dnstrail.image.parties import Doubts, share_of
from dnstrail.image.queries import ANY, MAX_EDGES, Address, Key, Queries, Query, address_of, servers_of

POLICIES: Final = ("auto", "accept", "reject")


class Verdict:
    """The decision on a response.

    `matched` states that it answers a captured query, and `asker` is the process that sent that query. `doubted` states
    that it is unmatched, and counts only because events of its party were lost. `copy` marks a copy of a response that
    was admitted, and `packet` is what all copies share. `query` is the query whose wait it ended. `first` contains the
    relations of the first answer if it answers a query again, else None.
    """

    admitted: bool = False
    matched: bool = False
    asker: Process | None = None
    doubted: bool = False
    copy: bool = False
    packet: Packet | None = None
    query: Query | None = None
    first: tuple[Edge, ...] | None = None


class Admission:
    """The queries of the last 30 s, and a verdict for each response. Stamps (ns) come with the messages.

    The start of a capture is a loss of all parties: the owner calls `gap`. Beyond `hosts` hosts in doubt all are.

    Raises:
        SettingsError: `unmatched` is none of POLICIES.
    """

    def __init__(self, unmatched: str = "auto", hosts: int = Bounds().probes) -> None:
        if unmatched not in POLICIES:
            raise SettingsError(f"dnscache unmatched: {unmatched!r} is none of {', '.join(POLICIES)}")
        self.unmatched = unmatched
        self._counters: Counts = Counts()
        self._matched = 0  # the most frequent count: an attribute costs less than an item
        self.doubts = Doubts(self._counters, hosts)
        self.queries = Queries(self.doubts, self._counters)
        self._copies = Copies()

    @property
    def counters(self) -> Counts:
        """The counters of verdicts, copies, reasons, and evictions.

        Verdicts are `matched`, `unmatched_accepted` and `unmatched_rejected`. Reasons are `unmatched_*`, and
        `unanswered` for queries without a response. Evictions are `pending_full` and `evicted_doubts`.
        """
        return Counts({"matched": self._matched} if self._matched else {}, **self._counters)

    def asked(self, stamp: int, header: Header, payload: bytes, circumstances: Circumstances) -> None:
        """Note a query; it waits for its response. A copy of a waiting query changes nothing."""
        flow = circumstances.flow
        if flow is None:
            return
        sent = flow.egress
        client_end = address_of(flow.source, flow.source_port)
        key, client = _keys(circumstances.host, flow, client_end, header.question, clients_own=sent)
        query = self.queries.find_waiting(key, stamp)
        servers, digest = servers_of(flow), hash(payload)
        sender = circumstances.process if sent else None
        if query is None:
            party = (share_of(circumstances, flow), sent or not flow.socket)
            side = self.queries.side(party)
            query = Query(key, client, party, side, sender or self.queries.sender(stamp, client))
        elif query.is_copy(stamp, digest, servers):
            return
        elif sender is not None:
            query.asker = sender
        self.queries.note(query, stamp, digest, servers)

    def answered(self, stamp: int, header: Header, payload: bytes, circumstances: Circumstances) -> Verdict:
        """Return the verdict on a response. The response ends the wait of its query, whatever it contains."""
        flow = circumstances.flow
        verdict = Verdict()
        if circumstances.asked:
            self._matched += 1
            verdict.admitted = verdict.matched = True
            return verdict
        if flow is None:
            self._judge(verdict, stamp, circumstances, sent=True)
            return verdict
        client_end = address_of(flow.destination, flow.destination_port)
        key, client = _keys(circumstances.host, flow, client_end, header.question, clients_own=not flow.egress)
        server = ANY if flow.socket and flow.egress else address_of(flow.source, flow.source_port)
        query = self.queries.find(key, client)
        packet, new = self._copies.find_or_add(hash((payload, client_end)), stamp)
        verdict.packet, verdict.copy = packet, packet.kept
        reason = "unmatched_query"
        if query is not None and key not in packet.ended:
            reason = query.end_wait(stamp, server)
        if query is not None and not reason:
            packet.ended += (key,)
            if not query.waits:
                self.queries.end(query, stamp)
            verdict.matched, verdict.admitted, verdict.asker = True, not packet.kept, query.asker
            verdict.query = query
            if packet.kept:
                self.queries.keep(query, packet.edges)
        if verdict.copy:
            self._counters["copies"] += 1
            return verdict
        if verdict.matched:
            self._matched += 1
            return verdict
        if new and query is not None:
            verdict.first = query.first_answer(stamp, server)
        self._counters[reason if verdict.first is None else "unmatched_repeated"] += 1
        self._judge(verdict, stamp, circumstances, sent=not flow.socket or not flow.egress)
        return verdict

    def note(self, verdict: Verdict, edges: tuple[Edge, ...]) -> bool:
        """Note the relations of a response, and return whether they conflict with those of the first response.

        A second response to one query conflicts if it has no target in common with the first.
        """
        held = edges if len(edges) <= MAX_EDGES else ()
        if verdict.admitted and verdict.packet is not None:
            verdict.packet.kept, verdict.packet.edges = True, held
        query = verdict.query
        if query is not None and (held or query.edges):
            self.queries.keep(query, held)
        return verdict.first is not None and conflicts(verdict.first, edges)

    def gap(self, stamp: int, host: str = "", cgroup: int = 0, owner: int = 0) -> None:
        """Put the party of a cgroup in doubt; without a cgroup all parties of an owner, of a host, or all parties."""
        if not cgroup and not owner:
            self.doubts.note_all(stamp, host)
            return
        for sent in (True, False):
            if cgroup:
                self.doubts.note(((host, CGROUP, cgroup, owner or cgroup), sent), stamp)
            else:
                self.doubts.note_owner(((host, CGROUP, owner), sent), stamp)

    def _judge(self, verdict: Verdict, stamp: int, circumstances: Circumstances, *, sent: bool) -> None:
        """Decide on a response that matches no query; `sent` states that its party would have sent the query."""
        flow = circumstances.flow
        verdict.admitted = self.unmatched == "accept"
        if self.unmatched == "auto":
            seen = circumstances.live and flow is not None and flow.socket != 0
            verdict.doubted = seen and self.doubts.is_doubted((share_of(circumstances, flow), sent), stamp)
            verdict.admitted = verdict.doubted or not seen
        self._counters["unmatched_accepted" if verdict.admitted else "unmatched_rejected"] += 1


def _keys(host: str, flow: Flow, client: Address, question: bytes, *, clients_own: bool) -> tuple[Key, Key]:
    """Return the key of a query at its socket, and its key by the client's address.

    Cookies of sockets, and addresses of clients, are those of one host: another host may have the same.
    The socket of a client identifies the client alone, since NAT may change its address. The socket of a server serves
    many clients, and needs their address, too. Without a socket both keys are the same.
    """
    socket, transport = flow.socket, flow.transport
    by_client: Key = (host, transport, client, question)  # mypyc makes one object of it by its type
    if not socket:
        return by_client, by_client
    if clients_own:
        return (host, socket, flow.namespace, question), by_client
    return (host, socket, flow.namespace, transport, client, question), by_client
