"""Admission: which messages count, which responses match a captured query, and who asked (docs/use/capture.md)."""

from __future__ import annotations

from typing import Final

from dnstrail.captured import Flow, Process
from dnstrail.dns.header import IN, QR, Header
from dnstrail.dns.tables import Recent
from dnstrail.errors import SettingsError
from dnstrail.image.answer import CGROUP, CLIENT, Answer, Circumstances, Edge, PartyKey, ShareKey
from dnstrail.image.bounds import Bounds, Counts
from dnstrail.image.evidence import Evidence
from dnstrail.image.parties import Doubts, owner_of, party_of, share_of
from dnstrail.image.queries import ANY, COPY, MAX_EDGES, Address, Key, Queries, Query, address_of, servers_of

POLICIES: Final = ("auto", "accept", "reject")
_HELD: Final = 32768  # responses in one half of the table
_OPCODE: Final = 0x7800
_LLMNR: Final = 5355  # the port of a responder (RFC 4795, section 2)
_GROUPS: Final = 224  # the least first byte of a multicast address


def refusal(header: Header, flow: Flow | None) -> str:
    """Return the counter of a message that changes nothing in the image, "" for a response that counts."""
    flags = header.flags
    if flow is not None:
        port = flow.source_port if flags & QR else flow.destination_port
        if port == _LLMNR or _is_multicast(flow.destination):
            return "multicast"
    if flags & _OPCODE:
        return "opcode"
    if not flags & QR:
        return "query" if header.asked.cls == IN else "other_query"
    if not header.question:
        return "question_count"
    return "" if header.asked.cls == IN else "class"


def _is_multicast(packed: bytes) -> bool:
    """Return whether a packed address is multicast: 224.0.0.0/4 (RFC 1112) or ff00::/8 (RFC 4291)."""
    if not packed or packed[0] < _GROUPS:
        return False
    return packed[0] == 0xFF if len(packed) == 16 else packed[0] < _GROUPS + 16  # noqa: PLR2004 - IPv6


class Packet:
    """One response. Several copies of it may be captured.

    `stamp` is the stamp of the first copy. `ended` contains the keys of the queries whose wait a copy ended, one for
    each socket. `kept` states that a copy was admitted, and `edges` contains its relations.
    """

    __slots__ = ("edges", "ended", "kept", "stamp")

    def __init__(self, stamp: int) -> None:
        self.stamp = stamp
        self.ended: tuple[Key, ...] = ()
        self.kept = False
        self.edges: tuple[Edge, ...] = ()


class Copies:
    """The responses of at least the last tenth of a second, by a hash of their bytes and their client.

    The older half of them is replaced when the younger half is older than COPY, or has _HELD responses.
    """

    def __init__(self) -> None:
        self._until = 0
        self._held = Recent[int, Packet](_HELD)

    def __len__(self) -> int:
        return len(self._held)

    def find_or_add(self, digest: int, stamp: int) -> tuple[Packet, bool]:
        """Return the response with a hash that was captured a moment ago at any socket, else a new one; True if new."""
        packet = self._held.get(digest)
        if packet is not None and abs(stamp - packet.stamp) <= COPY:
            return packet, False
        if stamp > self._until:
            self._held.replace()
            self._until = stamp + COPY
        packet = Packet(stamp)
        if self._held.add(digest, packet):
            self._until = stamp + COPY
        return packet, True


def conflicts(first: tuple[Edge, ...], second: tuple[Edge, ...]) -> bool:
    """Return whether two answers have targets, and none in common."""
    return bool(first and second and {edge[2] for edge in first}.isdisjoint(edge[2] for edge in second))


class Verdict:
    """The decision on a response.

    `matched` states that it answers a captured query, and `asker` is the process that sent that query. `doubted` states
    that it is unmatched, and counts only because events of its party were lost. `copy` marks a copy of a response that
    was admitted, and `packet` is what all copies share. `query` is the query whose wait it ended. `first` contains the
    relations of the first answer if it answers a query again, else None. `answer` is what the image read of it, None if
    it read nothing behind the question.
    """

    admitted: bool = False
    matched: bool = False
    asker: Process | None = None
    doubted: bool = False
    copy: bool = False
    packet: Packet | None = None
    query: Query | None = None
    first: tuple[Edge, ...] | None = None
    answer: Answer | None = None


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

    def asked(self, stamp: int, header: Header, payload: bytes, circumstances: Circumstances) -> Query | None:
        """Note a query, which waits for its response, and return it; None for a copy of one that waits already."""
        flow = circumstances.flow
        if flow is None:
            return None
        sent = flow.egress
        client_end = address_of(flow.source, flow.source_port)
        key, client = keys_of(circumstances.host, flow, client_end, header.question, clients_own=sent)
        query = self.queries.find_waiting(key, stamp)
        servers, digest = servers_of(flow), hash(payload)
        sender = circumstances.process if sent else None
        if query is None:
            party = (share_of(circumstances, flow), sent or not flow.socket)
            side = self.queries.side(party)
            query = Query(key, client, party, side, sender or self.queries.sender(stamp, client))
        elif query.is_copy(stamp, digest, servers):
            return None
        elif sender is not None:
            query.asker = sender
        self.queries.note(query, stamp, digest, servers)
        return query

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
        key, client = keys_of(circumstances.host, flow, client_end, header.question, clients_own=not flow.egress)
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


def keys_of(host: str, flow: Flow, client: Address, question: bytes, *, clients_own: bool) -> tuple[Key, Key]:
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
