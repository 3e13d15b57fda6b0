"""Admission: matches responses with captured queries, and decides which unmatched responses count (docs/capture.md)."""

from __future__ import annotations

import struct
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from dnstrail.captured import Flow, Process
from dnstrail.dns import Message
from dnstrail.dns.message import read_question
from dnstrail.dns.names import V4_MAPPED
from dnstrail.errors import BadMessage, SettingsError

POLICIES = ("auto", "accept", "reject")
WINDOW = 30.0  # seconds for which a query waits, and for which `auto` rejects nothing after a loss
REORDER = 1.0  # seconds by which the stamp of a response may precede its query
COPY = 0.1  # seconds within which the same bytes on the same flow are copies of one packet
MAX_SIGHTINGS = 64  # of one query that wait for their responses; beyond it the oldest is evicted
MAX_TARGETS = 64  # of a first response; a larger one is not held, and no conflict with it is found
_PRINTS, _STEPS = 4, 4  # packets of a query by which copies are found; entries of each queue that one call may drop
_NOT_A_QUERY, _IN = 0xF800, 1  # QR, and any OPCODE but QUERY; the class
_HEADER = struct.Struct("!3H6x")

Address = tuple[bytes, int]
Socket = tuple[int, int] | None  # cookie and namespace
Place = tuple[object, ...]  # party and id, or these, question and server
Question = tuple[str, int]  # name in canonical form, type
_ANY: Address = (b"", 0)  # a server that is unknown, or not compared


class PacketCopy(NamedTuple):
    """The first copy of a packet: its stamp, a hash of its bytes, and why it did not match (a response)."""

    stamp: float
    digest: int
    reason: str = ""


@dataclass(slots=True, eq=False)
class Query:
    """One query with all its retransmissions.

    `unanswered` are the stamps of the sightings that no response has used up yet: each sighting admits one response.
    `targets` are the targets of the first answer.
    """

    socket: Socket
    servers: tuple[Address, ...]
    places: tuple[Place, ...]
    latest: float
    unanswered: list[float] = field(default_factory=list)
    packets: tuple[PacketCopy, ...] = ()
    responses: tuple[PacketCopy, ...] = ()
    targets: frozenset[str] | None = None
    asker: Process | None = None

    def take(self, stamp: float) -> str:
        """Use up the first sighting that a response of this stamp can answer; return "" or the reason's counter."""
        for place, sighted in enumerate(self.unanswered):
            if -REORDER <= stamp - sighted <= WINDOW:
                del self.unanswered[place]
                return ""
        if abs(stamp - self.latest) <= WINDOW and not self.unanswered:
            return "unmatched_repeated"
        return "unmatched_late" if stamp > self.latest else "unmatched_early"


class Verdict(NamedTuple):
    """The decision on a response. `query` is the query that it answers, first or again; `copy` marks a copy."""

    admitted: bool
    matched: bool
    query: Query | None = None
    copy: bool = False

    @property
    def asker(self) -> Process | None:
        """Return the process that sent the query, if it was captured."""
        return self.query.asker if self.query else None


class Admission:
    """The queries of the last 30 s, and a verdict for each response. Stamps (seconds) come with the messages.

    `pending` bounds the queries that are held: answered queries are evicted first, then the oldest. `counters` counts
    verdicts (`matched`, `unmatched_accepted`, `unmatched_rejected`), `copies`, reasons (`unmatched_*`) and evictions
    (`pending_full`). The first message counts as a start of capture, like `gap`.

    Raises:
        SettingsError: `unmatched` is none of POLICIES.
    """

    def __init__(self, unmatched: str = "auto", *, pending: int = 16384) -> None:
        if unmatched not in POLICIES:
            raise SettingsError(f"dnscache unmatched: {unmatched!r} is none of {', '.join(POLICIES)}")
        self.unmatched = unmatched
        self.pending = pending
        self.counters: Counter[str] = Counter()
        self._in_doubt: float | None = None  # the time of the last loss
        self._index: dict[Place, Query] = {}
        self._waiting: OrderedDict[Query, None] = OrderedDict()
        self._answered: OrderedDict[Query, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._answered)

    def asked(self, stamp: float, wire: bytes, flow: Flow | None, process: Process | None = None) -> None:
        """Note a message that may be a query; ignore everything but queries of class IN with one question."""
        asked = _read_question(wire)
        if asked is None or flow is None:
            return
        query = self._find_or_add(stamp, *asked, flow)
        if flow.egress and process:
            query.asker = process
        digest = hash(wire)
        if _first_copy(query.packets, stamp, digest) is None:
            query.packets = (*query.packets[1 - _PRINTS :], PacketCopy(stamp, digest))
            self._sight(query, stamp)
        self._sweep(stamp)
        while len(self) > self.pending:
            oldest = next(iter(self._answered or self._waiting))
            if oldest in self._waiting and stamp - oldest.latest <= WINDOW:
                self.counters["pending_full"] += 1
                self.gap(stamp)
            self._drop(oldest)

    def answered(
        self, stamp: float, message: Message, flow: Flow | None, *, live: bool, asked: bool = False
    ) -> Verdict:
        """Return the verdict on a response that counts (`refusal` is None). It uses up a sighting unless it is a copy.

        `asked` states that the question was captured together with the response.
        """
        if asked:
            self.counters["matched"] += 1
            return Verdict(admitted=True, matched=True)
        query, reason = self._find(message, flow) if flow else (None, "")
        copy = False
        if query is not None:
            reason, copy = self._match(query, stamp, hash(message.wire))
        matched = query is not None and not reason
        admitted = matched or not self._rejects(stamp, flow, live)
        self.counters["matched" if matched else f"unmatched_{'accepted' if admitted else 'rejected'}"] += 1
        self.counters.update(name for name in (reason, copy and "copies") if name)
        self._sweep(stamp)
        return Verdict(admitted, matched, query if reason in ("", "unmatched_repeated") else None, copy)

    def gap(self, stamp: float) -> None:
        """Note a loss, or a start of a probe: for 30 s from this stamp on `auto` rejects nothing."""
        self._in_doubt = stamp if self._in_doubt is None else max(self._in_doubt, stamp)

    def _rejects(self, stamp: float, flow: Flow | None, live: bool) -> bool:
        if self.unmatched != "auto":
            return self.unmatched == "reject"
        seen = live and flow is not None and flow.socket != 0
        return seen and self._in_doubt is not None and stamp - self._in_doubt > WINDOW

    def _find_or_add(self, stamp: float, id_: int, question: Question, flow: Flow) -> Query:
        servers = _servers(flow)
        socket, parties = _parties(flow, _address(flow.source, flow.source_port), flow.egress)
        query = self._index.get((parties[0], id_, question, servers[0]))
        same = query is not None and query.socket == socket and query.servers[0] == servers[0]
        if query and same and abs(stamp - query.latest) <= WINDOW:
            return query
        keys = {(id_, question, server) for server in (*servers, _ANY)} | {(id_,)}
        places = tuple((party, *key) for party in parties for key in keys)
        query = Query(socket, servers, places, stamp, asker=self._sender(stamp, parties[-1], id_, question))
        for place in query.places:
            held = self._index.get(place)
            if held is None or held.socket or not socket:  # queries without a socket have nothing but their address
                self._index[place] = query
        return query

    def _sender(self, stamp: float, client: Place, id_: int, question: Question) -> Process | None:
        """Return the sender of this packet, if a copy of it was captured at the sender's socket just before."""
        sent = self._index.get((client, id_, question, _ANY))
        return sent.asker if sent and abs(stamp - sent.latest) <= COPY else None

    def _sight(self, query: Query, stamp: float) -> None:
        young = [sighted for sighted in query.unanswered if stamp - sighted <= WINDOW + REORDER]
        if len(young) >= MAX_SIGHTINGS:
            self.counters["pending_full"] += 1
            self.gap(stamp)
        query.unanswered = [*young[1 - MAX_SIGHTINGS :], stamp]
        query.latest = stamp
        self._answered.pop(query, None)
        self._waiting[query] = None
        self._waiting.move_to_end(query)

    def _find(self, message: Message, flow: Flow) -> tuple[Query | None, str]:
        """Find the query of a response, by its socket before its address, or return the reason why there is none."""
        socket, parties = _parties(flow, _address(flow.destination, flow.destination_port), not flow.egress)
        server, reason = _address(flow.source, flow.source_port), ""
        for party in parties:
            asked = (party, message.id, (message.name, message.type))
            query = self._index.get((*asked, server)) or self._index.get((*asked, _ANY))
            if query is None:
                reason = reason or ("unmatched_question" if asked[:2] in self._index else "")
            elif _ANY not in (server, query.servers[0]) and server not in query.servers:
                reason = "unmatched_wrong_server"
            elif query.socket == socket or None in (query.socket, socket):
                return query, ""
        return None, reason

    def _match(self, query: Query, stamp: float, digest: int) -> tuple[str, bool]:
        """Return why a response does not match its query ("" if it does), and whether it is a copy."""
        first = _first_copy(query.responses, stamp, digest)
        if first:
            return first.reason, True
        reason = query.take(stamp)
        query.responses = (*query.responses[1 - _PRINTS :], PacketCopy(stamp, digest, reason))
        if not reason and not query.unanswered:
            del self._waiting[query]
            self._answered[query] = None
        return reason, False

    def _sweep(self, stamp: float) -> None:
        """Drop a few queries that are too old for any response of about this stamp."""
        if self._in_doubt is None:
            self.gap(stamp)
        for query in (*islice(self._waiting, _STEPS), *islice(self._answered, _STEPS)):
            if stamp - query.latest > WINDOW + REORDER:
                self._drop(query)

    def _drop(self, query: Query) -> None:
        self._waiting.pop(query, None)
        self._answered.pop(query, None)
        for place in query.places:
            if self._index.get(place) is query:
                del self._index[place]


def conflicts(verdict: Verdict, targets: frozenset[str]) -> bool:
    """Return whether a second response to one query has no target in common with the first.

    Call it once for every verdict, rejections included: it also stores the targets of the first answer in its query.
    """
    query = verdict.query
    if query is None or verdict.copy:
        return False
    if verdict.matched:  # it used up a sighting, so it is no second answer
        if query.targets is None:
            query.targets = targets if len(targets) <= MAX_TARGETS else frozenset()
        return False
    return bool(targets and query.targets and query.targets.isdisjoint(targets))


def _read_question(wire: bytes) -> tuple[int, Question] | None:
    """Return id and question of a query of class IN with exactly one question; None for everything else."""
    try:
        id_, flags, questions = _HEADER.unpack_from(wire)
        if flags & _NOT_A_QUERY or questions != 1:
            return None
        name, rdtype, cls, _ = read_question(wire, {})
    except (BadMessage, struct.error):
        return None
    return (id_, (name, rdtype)) if cls == _IN else None


def _parties(flow: Flow, client: Address, clients_own: bool) -> tuple[Socket, list[Place]]:
    """Return the keys of the asker: its socket if known, then its address.

    A client's own socket identifies it alone, since NAT may change its address. A server's socket serves many clients
    and needs their address, too.
    """
    by_address = (flow.transport, *client)
    if not flow.socket:
        return None, [by_address]
    socket = (flow.socket, flow.namespace)
    return socket, [socket if clients_own else (*socket, *by_address), by_address]


def _servers(flow: Flow) -> tuple[Address, ...]:
    """Return the allowed sources of the response: the address that the process meant, then the packet's destination.

    Example, Docker's embedded DNS: the process sends to 127.0.0.11:53, the kernel redirects to 127.0.0.11:44932, and
    the response reaches the client's socket from 127.0.0.11:53 again. It is compared with the address that was meant.
    At the server's socket nothing is compared: its packets are captured after their source was rewritten.
    """
    if flow.socket and not flow.egress:
        return (_ANY,)
    sent = _address(flow.destination, flow.destination_port)
    meant = _address(flow.meant, flow.meant_port or flow.destination_port)
    return (sent,) if meant in (_ANY, sent) else (meant, sent)


def _address(packed: bytes, port: int) -> Address:
    """Return an address and port as they are compared: IPv4-mapped IPv6 is IPv4."""
    return (packed.removeprefix(V4_MAPPED), port) if packed else _ANY


def _first_copy(seen: tuple[PacketCopy, ...], stamp: float, digest: int) -> PacketCopy | None:
    return next((packet for packet in seen if packet.digest == digest and abs(stamp - packet.stamp) <= COPY), None)
