"""Admission: matches responses with captured queries, and decides which unmatched ones count (docs/capture.md)."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from dnstrail.captured import Flow, Process
from dnstrail.dns.header import Header
from dnstrail.errors import SettingsError
from dnstrail.image.answer import Circumstances
from dnstrail.image.copies import Copies, FirstAnswers
from dnstrail.image.parties import Doubts, PartyKey, party_of
from dnstrail.image.queries import ANY, Address, Key, Queries, Query, address_of, servers_of

POLICIES = ("auto", "accept", "reject")


class Verdict(NamedTuple):
    """The decision on a response.

    `matched` states that it answers a captured query, and `asker` is the process that sent that query. `doubted` states
    that it is unmatched, and counts only because events of its party were lost. `copy` marks a copy of a response that
    was admitted. `first` states that it ended the wait of a query, `again` that it answers a query a second time;
    `key` identifies that query.
    """

    admitted: bool = False
    matched: bool = False
    asker: Process | None = None
    doubted: bool = False
    copy: bool = False
    again: bool = False
    key: Key = ()
    server: Address = ANY
    client: Address = ANY
    party: PartyKey = ("",)


class Admission:
    """The queries of the last 30 s, and a verdict for each response. Stamps (ns) come with the messages.

    `counters` counts verdicts (`matched`, `unmatched_accepted`, `unmatched_rejected`), `copies`, reasons (`unmatched_*`)
    and evictions (`pending_full`). The first message counts as a start of capture, like a loss of all parties.

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
        self.first_answers = FirstAnswers(self.counters)
        self._copies = Copies()

    def asked(self, stamp: int, header: Header, payload: bytes, circumstances: Circumstances) -> None:
        """Note a query."""
        flow = circumstances.flow
        if flow is None:
            return
        source = address_of(flow.source, flow.source_port)
        key, client = _keys(flow, source, header.question, clients_own=flow.egress)
        query = self.queries.find(key, client)
        if query is None or query.key != key:
            sent = not flow.socket or flow.egress
            query = Query(key, client, (party_of(circumstances, flow), sent))
            query.asker = self.queries.sender(stamp, client)
        if flow.egress and circumstances.process is not None:
            query.asker = circumstances.process
        servers = servers_of(flow)
        if not query.is_copy(stamp, hash((payload, servers))):
            self.queries.note(query, stamp, servers)

    def answered(self, stamp: int, header: Header, payload: bytes, circumstances: Circumstances) -> Verdict:
        """Return the verdict on a response. It ends the wait of its query, whatever it contains."""
        flow, process = circumstances.flow, circumstances.process
        party = party_of(circumstances, flow)
        if circumstances.asked:
            self.counters["matched"] += 1
            return Verdict(admitted=True, matched=True, asker=process, party=party)
        if flow is None:
            return self._unmatched(stamp, circumstances, (party, True), Verdict(party=party))
        client_end = address_of(flow.destination, flow.destination_port)
        server = address_of(flow.source, flow.source_port)
        key, client = _keys(flow, client_end, header.question, clients_own=not flow.egress)
        compared = ANY if flow.socket and flow.egress else server
        query = self.queries.find(key, client)
        reason = "unmatched_query" if query is None else query.end_wait(stamp, compared)
        copy = self._copies.is_copy(payload, client_end, stamp)
        verdict = Verdict(
            copy=copy, key=key if query is None else query.key, server=compared, client=client_end, party=party
        )
        if query is not None and not reason:
            if not query.waits:
                self.queries.drop(query)
            self.counters["copies" if copy else "matched"] += 1
            return verdict._replace(admitted=not copy, matched=True, asker=query.asker)
        if copy:
            self.counters["copies"] += 1
            return verdict
        again = self.first_answers.find(verdict.key, compared, stamp) is not None
        self.counters["unmatched_repeated" if again else reason] += 1
        sent = not flow.socket or not flow.egress
        return self._unmatched(stamp, circumstances, (party, sent), verdict._replace(again=again))

    def note(self, verdict: Verdict, stamp: int, payload: bytes, targets: frozenset[str]) -> bool:
        """Note the targets of a response, and return whether they conflict with those of the first response.

        A second response to one query conflicts if it has no target in common with the first.
        """
        if verdict.admitted and verdict.client != ANY:
            self._copies.note(payload, verdict.client, stamp)
        if verdict.matched and verdict.key:
            self.first_answers.note(verdict.key, verdict.server, stamp, targets)
        if not verdict.again:
            return False
        first = self.first_answers.find(verdict.key, verdict.server, stamp)
        return bool(first is not None and first.targets and targets and first.targets.isdisjoint(targets))

    def gap(self, stamp: int, host: str = "", cgroup: int = 0) -> None:
        """Note that the party with this cgroup lost events, or all parties (cgroup 0)."""
        if cgroup:
            for sent in (True, False):
                self.doubts.note(((host, "cgroup", cgroup), sent), stamp)
        else:
            self.doubts.note_all(stamp)

    def _unmatched(
        self, stamp: int, circumstances: Circumstances, side: tuple[PartyKey, bool], verdict: Verdict
    ) -> Verdict:
        flow = circumstances.flow
        admitted, doubted = self.unmatched == "accept", False
        if self.unmatched == "auto":
            seen = circumstances.live and flow is not None and flow.socket != 0
            doubted = seen and self.doubts.is_doubted(side, stamp)
            admitted = doubted or not seen
        self.counters["unmatched_accepted" if admitted else "unmatched_rejected"] += 1
        return verdict._replace(admitted=admitted, doubted=doubted)


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
