"""DNS transactions: each question of an asker once, when it has ended (docs/inside/image.md)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Final

from msgspec.structs import replace

from dnstrail.captured import FORWARDER, Flow, Process
from dnstrail.dns.header import Header
from dnstrail.dns.message import read_question
from dnstrail.dns.tables import Recent
from dnstrail.image.admission import Verdict, keys_of
from dnstrail.image.answer import Answer, Circumstances
from dnstrail.image.bounds import SECOND, Counts
from dnstrail.image.facts.heard import Heard
from dnstrail.image.facts.held_responses import HeldResponse, HeldResponses, Named
from dnstrail.image.facts.outcome import RCODE, read_outcome
from dnstrail.image.facts.pending import Key, Pending, Received, hop_of
from dnstrail.image.facts.transaction import UNANSWERED, UNKNOWN, Transaction
from dnstrail.image.queries import COPY, WINDOW, Queries, Query, address_of
from dnstrail.image.relate import read_answer

_PACKETS: Final = 32768  # queries in one half of the table
#: questions of processes whose packets are known -> a call of getaddrinfo may be a transaction beside its packet
MOST_NAMED: Final = 4096
#: unanswered questions whose late answers are known -> a late answer that is admitted makes a transaction of its own
MOST_UNANSWERED: Final = 4096
_AT_ONCE: Final = 4096  # unanswered questions that one call ends
_NEVER: Final = -(1 << 61)


class Transactions:
    """The questions that wait for their answers, and the transactions that ended since the last call of `take`.

    A question is open as long as its query waits in `queries`: the shares of owners and the bound are those of
    `Queries`. A question that is evicted there ends as "unknown". Questions of an earlier collection are left out.

    `heard` states up to which times all events have arrived, as `advance` did. It decides that no answer came, or that
    no question precedes a response. The stamps of messages do not, since another host may be behind.
    """

    def __init__(self, queries: Queries, owned: int, counters: Counts) -> None:
        self.heard = Heard(_NEVER, {})
        self._queries = queries
        self._owned = owned
        self._open: dict[Pending, None] = {}  # in the order of the last tries
        self._settling: OrderedDict[Pending, None] = OrderedDict()  # ended; the asker's own capture may still come
        self._packets = Recent[int, Pending](_PACKETS)  # by a hash of the bytes of the last try
        self._until = 0
        self._received: dict[Received, dict[Pending, None]] = {}  # the one that was received first is the first
        self._named = Recent[Named, Pending](MOST_NAMED)
        self._unanswered = Recent[Key, int](MOST_UNANSWERED)  # the stamp of the last try
        self._held = HeldResponses(counters)
        self._ended: list[Transaction] = []

    def take(self) -> list[Transaction]:
        """Return the transactions that have ended since the last call, in the order of their ends."""
        ended, self._ended = self._ended, []
        ended.sort(key=attrgetter("ended"))
        return ended

    def advance(self, now: int, behind: Mapping[str, int] | None = None) -> None:
        """State that all events up to `now` have arrived, and end what has waited long enough.

        `behind` contains earlier times for the hosts that are behind. One call ends _AT_ONCE unanswered questions at
        most.
        """
        heard = self.heard = Heard(max(now, self.heard.until), behind or {})
        for pending in _over(self._open, WINDOW, heard, _AT_ONCE):
            self._end_unanswered(pending)
        for pending in _over(self._settling, COPY, heard, len(self._settling)):
            self._settle(pending)
        for held in self._held.due(heard):
            if self._held.release(held):
                self._publish(held)

    def asked(self, stamp: int, header: Header, payload: bytes, circumstances: Circumstances, query: Query) -> None:
        """Note a sighting of a query that admission has just noted."""
        if self._queries.dropped:
            self._end_dropped(stamp)
        flow, pending = circumstances.flow, query.pending
        if flow is None:  # a query without a flow waits for nothing
            return
        digest = hash((circumstances.host, payload))
        if pending is not None and isinstance(pending, Pending) and pending in self._open:
            if stamp - pending.latest <= WINDOW:
                self._repeat(pending, query, stamp, digest)
                self._note_receiver(pending, circumstances)
                return
            self._end_unanswered(pending)
        captured = self._capture(stamp, header, payload, circumstances, flow, query, digest)
        query.pending = captured
        self._note_receiver(captured, circumstances)
        if self._held.held and captured in self._open:
            self._join(captured, query, stamp, flow)

    def answered(
        self, stamp: int, header: Header, payload: bytes, circumstances: Circumstances, verdict: Verdict
    ) -> None:
        """Note a response, with the verdict on it and the answer that the image read."""
        query = verdict.query
        if query is None:
            self._hold(stamp, header, payload, circumstances, verdict)
            return
        pending, query.pending = query.pending, None
        held = self._held.take(verdict.packet) if self._held.held else None
        if not isinstance(pending, Pending) or pending not in self._open:
            return
        if held is not None and verdict.copy:  # the image holds the answer of the first copy
            self._end_by(pending, held)
            return
        answer = verdict.answer
        if verdict.copy and header.answer_count:
            answer = self._read(header, payload, circumstances.flow)
        outcome, rcode = read_outcome(header, payload, answer), header.flags & RCODE
        self._close(pending, pending.transaction(stamp, outcome, rcode, answer, circumstances.foreign, verdict))

    def _capture(
        self,
        stamp: int,
        header: Header,
        payload: bytes,
        circumstances: Circumstances,
        flow: Flow,
        query: Query,
        digest: int,
    ) -> Pending:
        """Return the transaction of a query: the one that has its packet, else a new one."""
        last = self._packets.get(digest)
        captured = None if last is None else _captured_before(last, query, flow, stamp, circumstances.process)
        if captured is not None:
            captured.others += (query.key, query.client)
            if flow.egress and not captured.flow.egress:
                self._note_asker(captured, query, flow, stamp, circumstances.process)
            return captured
        pending = Pending(query.key, query.client, flow, stamp, header.asked, circumstances)
        if not pending.name:
            pending.name = read_question(payload, {})[0]
        process = pending.process
        if process is not None:
            self._note_packet_of(process, pending, stamp)
            if flow.role == FORWARDER:
                self._note_client(pending, process)
        self._open[pending] = None
        if last is not None:
            pending.follow(last)
        self._note_packet(digest, pending, stamp)
        return pending

    def _note_client(self, pending: Pending, process: Process) -> None:
        """Note the client for which a forwarder asks: the first one whose question it received, and that waits."""
        received = pending.host, process.pid, process.start_time, pending.asked.key
        for client in self._received.get(received, ()):
            if client is not pending and pending.latest - client.latest <= WINDOW:
                pending.asked_for = client.asked_for or client.id
                break

    def _note_packet_of(self, process: Process, pending: Pending, stamp: int) -> None:
        """Note a packet of a process: calls of getaddrinfo for the same name belong to it."""
        named: Named = (pending.host, process.pid, process.start_time, pending.name)
        self._named.add(named, pending)
        if self._held.held:
            self._held.use_calls(named, stamp)

    def _note_asker(self, pending: Pending, query: Query, flow: Flow, stamp: int, process: Process | None) -> None:
        """Note that a question which was captured at its server is now captured at the asker's own socket, too."""
        pending.send(query.key, query.client, flow, stamp, process)
        if process is not None:
            for packet in (pending.first, pending.latest):
                self._note_packet_of(process, pending, packet)
            if flow.role == FORWARDER:
                self._note_client(pending, process)
        ended = pending.ended
        if ended is not None:
            pending.ended = replace(
                ended,
                asked=pending.first,
                process=process,
                flow=flow,
                hop=hop_of(flow),
                asked_for=pending.asked_for,
            )
            self._settle(pending)

    def _note_receiver(self, pending: Pending, circumstances: Circumstances) -> None:
        """Note the process that received a question: it may ask another server on behalf of the client."""
        flow, process, receiver = circumstances.flow, circumstances.process, circumstances.relay
        if flow is not None and not flow.egress:
            receiver = None
            if process is not None:
                pending.server, receiver = process, (process.pid, process.start_time)
        if receiver is not None and pending.received is None and pending in self._open:
            received: Received = (pending.host, receiver[0], receiver[1], pending.asked.key)
            self._received.setdefault(received, {})[pending] = None
            pending.received = received

    def _note_packet(self, digest: int, pending: Pending, stamp: int) -> None:
        """Remember a query for COPY at least, so that further captures of its packet are known."""
        if stamp > self._until:
            self._packets.replace()
            self._until = stamp + COPY
        if self._packets.add(digest, pending):
            self._until = stamp + COPY

    def _repeat(self, pending: Pending, query: Query, stamp: int, digest: int) -> None:
        """Note a further try, as captured at the socket nearest to the asker."""
        if pending.key is not query.key:
            return
        pending.tries += 1
        if stamp < pending.first:
            pending.first = stamp
        if stamp > pending.latest:
            pending.latest = stamp
        del self._open[pending]  # it moves to the end
        self._open[pending] = None
        if pending.process is not None:
            self._note_packet_of(pending.process, pending, stamp)
        last = self._packets.get(digest)
        if last is None or stamp - last.latest > COPY:
            self._note_packet(digest, pending, stamp)

    def _join(self, pending: Pending, query: Query, stamp: int, flow: Flow) -> None:
        """End a question by a response that came before it."""
        held = self._held.find(query, stamp, flow)
        if held is not None:
            self._held.use(held)
            self._end_by(pending, held)

    def _end_by(self, pending: Pending, held: HeldResponse) -> None:
        """End a question by a held response."""
        outcome, answer, payload = held.outcome, held.verdict.answer, held.payload
        if not outcome:  # the image rejected it, and read nothing
            answer = self._read(held.header, payload, held.flow) if payload else None
            outcome = read_outcome(held.header, payload, answer)
        rcode = held.header.flags & RCODE
        self._close(pending, pending.transaction(held.stamp, outcome, rcode, answer, held.foreign, held.verdict))

    def _read(self, header: Header, payload: bytes, flow: Flow | None) -> Answer:
        """Return the answer in a response that the image did not read."""
        return read_answer(payload, header, flow, Counts(), self._owned)

    def _end_unanswered(self, pending: Pending) -> None:
        """End a question that nobody answered in time."""
        for key in (pending.key, pending.client, *pending.others):
            self._unanswered.add(key, pending.latest)
        self._close(pending, pending.transaction(pending.latest + WINDOW, UNANSWERED))

    def _end_dropped(self, stamp: int) -> None:
        """End the questions whose queries are held no longer: they are too old, or beyond the share of their owner."""
        for query in self._queries.dropped:
            pending = query.pending
            if not isinstance(pending, Pending) or pending not in self._open or pending.key is not query.key:
                continue
            if stamp - pending.latest > WINDOW:
                self._end_unanswered(pending)
            else:
                self._close(pending, pending.transaction(max(stamp, pending.latest), UNKNOWN))
        self._queries.dropped.clear()

    def _close(self, pending: Pending, transaction: Transaction) -> None:
        """Hand over a transaction, or hold it as long as it may still be captured at the asker's own socket."""
        if transaction.rcode >= 0:
            pending.answered = transaction.ended
            if pending.process is not None:  # which may have asked for this name again meanwhile
                self._note_packet_of(pending.process, pending, transaction.ended)
        del self._open[pending]
        if pending.received is not None:
            waiting = self._received[pending.received]
            del waiting[pending]
            if not waiting:
                del self._received[pending.received]
        if pending.flow.egress or not pending.flow.socket or pending.latest + COPY < self.heard.of(pending.host):
            self._ended.append(transaction)
        else:
            pending.ended = transaction
            self._settling[pending] = None

    def _settle(self, pending: Pending) -> None:
        """Hand over a transaction that was held."""
        del self._settling[pending]
        if pending.ended is not None:
            self._ended.append(pending.ended)
            pending.ended = None

    def _hold(self, stamp: int, header: Header, payload: bytes, circumstances: Circumstances, verdict: Verdict) -> None:
        """Hold a response without a question."""
        flow = circumstances.flow
        keys = [] if flow is None else _keys_of_question(header, circumstances.host, flow)
        held = self._held.of_packet(verdict.packet)
        if held is not None and (not verdict.admitted or held.used):
            self._held.add_capture(held, flow, keys)
            return
        if verdict.copy:
            return
        if held is not None:
            self._held.use(held)  # the first copy was rejected, and this one is admitted
        outcome = read_outcome(header, payload, verdict.answer) if verdict.admitted else ""
        held = HeldResponse(stamp, header, payload, circumstances, verdict, outcome)
        held.used = verdict.first is not None or self._is_late(keys, stamp) or self._has_packet(held)
        evicted = self._held.add(held, keys)
        if evicted is not None:
            self._publish(evicted)

    def _is_late(self, keys: list[Key], stamp: int) -> bool:
        """Return whether the question with these keys ended unanswered lately, or is about to."""
        for key in keys:
            query = self._queries.find(key, keys[-1])
            pending = None if query is None else query.pending
            if isinstance(pending, Pending) and pending in self._open and _is_too_late(stamp, pending.latest):
                return True
        for key in keys:
            latest = self._unanswered.get(key)
            if latest is not None and _is_too_late(stamp, latest):
                return True
        return False

    def _publish(self, held: HeldResponse) -> None:
        """Hand over the transaction of a response whose question did not come. One that was rejected makes none."""
        if not held.outcome or held.used or self._is_late(held.keys, held.stamp) or self._has_packet(held):
            return
        self._ended.append(held.transaction())

    def _has_packet(self, held: HeldResponse) -> bool:
        """Return whether a call of getaddrinfo belongs to a packet of the same process, name and second."""
        pending = None if held.named is None else self._named.get(held.named)
        if pending is None:
            return False
        return any(abs(held.stamp - stamp) <= SECOND for stamp in (pending.first, pending.latest, pending.answered))


def _is_too_late(stamp: int, latest: int) -> bool:
    """Return whether a response comes in the time after a last try in which it changes nothing."""
    return WINDOW < stamp - latest <= 2 * WINDOW


def _captured_before(last: Pending, query: Query, flow: Flow, stamp: int, process: Process | None) -> Pending | None:
    """Return the question of which a query with the same bytes is a further capture, the newest if there are several.

    One of the same socket or client comes before one behind NAT.
    """
    behind_nat: Pending | None = None
    pending: Pending | None = last
    while pending is not None:
        if abs(stamp - pending.latest) <= COPY:
            if pending.key == query.key:
                return pending
            if not (pending.flow.egress and flow.egress):
                if pending.client == query.client:
                    return pending
                if behind_nat is None and _is_behind_nat(pending, flow, process):
                    behind_nat = pending
        pending = pending.before
    return behind_nat


def _is_behind_nat(pending: Pending, flow: Flow, process: Process | None) -> bool:
    """Return whether a query is one packet with a question of a client that has another address.

    The process that owns the server's socket is known, and the packet left another network namespace.
    """
    sent = pending.flow.egress
    if sent == flow.egress or pending.flow.namespace == flow.namespace:
        return False
    owned = process is not None and pending.server is None if sent else pending.server is not None
    return owned and pending.flow.transport == flow.transport


def _keys_of_question(header: Header, host: str, flow: Flow) -> list[Key]:
    """Return the keys of the question to a response."""
    client = address_of(flow.destination, flow.destination_port)
    return list(keys_of(host, flow, client, header.question, clients_own=not flow.egress))


def _over(waiting: Iterable[Pending], wait: int, heard: Heard, most: int) -> list[Pending]:
    """Return at most so many questions, in the order of their last tries, that have waited for a time (ns)."""
    over: list[Pending] = []
    for pending in waiting:
        if pending.latest + wait >= heard.until or len(over) == most:
            break
        if pending.latest + wait < heard.of(pending.host):
            over.append(pending)
    return over
