"""Responses without a question, which wait a second for it (docs/inside/image.md)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from msgspec.structs import replace

from dnstrail.captured import Flow
from dnstrail.dns.header import Header
from dnstrail.dns.message import read_question
from dnstrail.image.admission import Packet, Verdict
from dnstrail.image.answer import Circumstances, PartyKey
from dnstrail.image.bounds import SECOND, Counts
from dnstrail.image.facts.heard import Heard
from dnstrail.image.facts.outcome import RCODE
from dnstrail.image.facts.pending import Key, hop_of
from dnstrail.image.facts.transaction import OF_CLIENT, SERVED, UNKNOWN, Transaction
from dnstrail.image.parties import owner_of
from dnstrail.image.queries import ANY, REORDER, WINDOW, Address, Query, address_of, may_answer, servers_of

#: responses without a question that wait for it -> an owner with more than half gives up its oldest, else the oldest of
#: all goes: `evicted_responses`
MOST_HELD: Final = 4096
#: bytes of a response that admission rejected, and whose question comes later -> its records are not read: the outcome
#: is "unknown"
MAX_KEPT: Final = 4096

MOST_CAPTURES: Final = 8  # of a response; somebody may forge further copies of it

Named = tuple[str, int, int, str]  # a process (host, pid, start), and a name that it asked for


class HeldResponse:
    """A response that came without a question, or that getaddrinfo returned (`call`).

    `verdict` is that of admission, with the answer. `outcome` is "" if the image rejected the response, and read
    nothing; `payload` is for this case. `keys` are those by which its question finds it; `captures` has those of each
    capture, with its source. `used` states that it belongs to a transaction, or makes none. `named` is the process of a
    call with the name, if it is known.
    """

    __slots__ = (
        "batch",
        "call",
        "captures",
        "flow",
        "foreign",
        "header",
        "host",
        "keys",
        "name",
        "named",
        "outcome",
        "owner",
        "payload",
        "place",
        "process",
        "stamp",
        "used",
        "verdict",
    )

    def __init__(
        self,
        stamp: int,
        header: Header,
        payload: bytes,
        circumstances: Circumstances,
        verdict: Verdict,
        outcome: str,
    ) -> None:
        flow = circumstances.flow
        self.stamp = stamp
        self.header = header
        self.name = header.asked.name or read_question(payload, {})[0]
        self.payload = payload if not outcome and len(payload) <= MAX_KEPT else b""
        self.outcome = outcome
        self.flow = flow
        self.process = circumstances.process
        self.foreign = circumstances.foreign
        self.host = circumstances.host
        self.batch = circumstances.batch
        self.place = circumstances.place
        self.call = circumstances.asked
        self.verdict = verdict
        self.owner = owner_of(circumstances, flow)
        self.captures: list[tuple[list[Key], Address]] = []
        process, self.named = circumstances.process, None
        if self.call and process is not None:
            self.named = self.host, process.pid, process.start_time, self.name
        self.keys: list[Key] = []
        self.used = False

    def answers(self, asked: int, flow: Flow, key: Key) -> bool:
        """Return whether it may answer a query that has found it by a key, by its time and the source of a capture."""
        if not -REORDER <= self.stamp - asked <= WINDOW:
            return False
        servers = servers_of(flow)
        return any(key in keys and may_answer(source, servers) for keys, source in self.captures)

    def transaction(self) -> Transaction:
        """Return the transaction of a response whose question was not captured."""
        flow = None if self.flow is None else _flow_of_question(self.flow)
        hop = OF_CLIENT if self.call else SERVED if flow is None else hop_of(flow)
        verdict = self.verdict
        return Transaction(
            batch=self.batch,
            place=self.place,
            host=self.host,
            asked=0,
            ended=self.stamp,
            name=self.name,
            type=self.header.asked.type,
            process=None if hop == SERVED else self.process,
            flow=flow,
            hop=hop,
            outcome=self.outcome,
            rcode=self.header.flags & RCODE,
            answer=verdict.answer,
            matched=verdict.matched,
            doubted=verdict.doubted,
            foreign=self.foreign,
            admitted=self.outcome != UNKNOWN,
        )


def _source_of(flow: Flow | None) -> Address:
    """Return the source of a response; ANY if its capture does not show it."""
    return ANY if flow is None or (flow.socket and flow.egress) else address_of(flow.source, flow.source_port)


def _flow_of_question(flow: Flow) -> Flow:
    """Return the flow of the question to a response."""
    return replace(
        flow,
        source=flow.destination,
        source_port=flow.destination_port,
        destination=flow.source,
        destination_port=flow.source_port,
        egress=flow.socket != 0 and not flow.egress,
    )


class HeldResponses:
    """The responses of the last second that came without a question, within a bound. `held` contains them all."""

    def __init__(self, counters: Counts) -> None:
        self._counters = counters
        self.held: OrderedDict[HeldResponse, None] = OrderedDict()  # the one that came first is the first
        self._owners: dict[PartyKey, OrderedDict[HeldResponse, None]] = {}
        self._by_key: dict[Key, dict[HeldResponse, None]] = {}
        self._by_packet: dict[Packet, HeldResponse] = {}

    def of_packet(self, packet: Packet | None) -> HeldResponse | None:
        """Return the response of which a packet is a copy."""
        return None if packet is None else self._by_packet.get(packet)

    def find(self, query: Query, asked: int, flow: Flow) -> HeldResponse | None:
        """Return the first response that may answer a query: by its socket, else by its client if one has no socket."""
        for held in self._by_key.get(query.key, ()):
            if held.answers(asked, flow, query.key):
                return held
        for held in self._by_key.get(query.client, ()) if query.key != query.client else ():
            if held.flow is not None and not held.flow.socket and held.answers(asked, flow, query.client):
                return held
        return None

    def add(self, held: HeldResponse, keys: list[Key]) -> HeldResponse | None:
        """Hold a response. Return one that must go for it."""
        self.held[held] = None
        self._owners.setdefault(held.owner, OrderedDict())[held] = None
        if held.verdict.packet is not None:
            self._by_packet[held.verdict.packet] = held
        self.add_capture(held, held.flow, keys if held.named is None else [held.named])
        if len(self.held) <= MOST_HELD:
            return None
        own = self._owners[held.owner]
        evicted = next(iter(own if len(own) > MOST_HELD // 2 else self.held))
        self._counters["evicted_responses"] += 1
        self._remove(evicted)
        return evicted

    def add_capture(self, held: HeldResponse, flow: Flow | None, keys: list[Key]) -> None:
        """Let the question of a response find it by the keys of a capture."""
        if len(held.captures) == MOST_CAPTURES:
            return
        held.captures.append((keys, _source_of(flow)))
        held.keys += keys
        if not held.used:
            for key in keys:
                self._by_key.setdefault(key, {})[held] = None

    def take(self, packet: Packet | None) -> HeldResponse | None:
        """Return the response of which a packet is a copy, unless it was used; it is used now."""
        held = self.of_packet(packet)
        if held is None or held.used:
            return None
        self.use(held)
        return held

    def use(self, held: HeldResponse) -> None:
        """Give a response to a transaction. Further copies of it are still known."""
        held.used = True
        self._remove_keys(held)

    def use_calls(self, named: Named, stamp: int) -> None:
        """Give the calls of a process for a name to a packet of their second."""
        for held in [*self._by_key.get(named, ())]:
            if abs(held.stamp - stamp) <= SECOND:
                self.use(held)

    def due(self, heard: Heard) -> list[HeldResponse]:
        """Return the responses that have waited for a second, the one that came first first."""
        due: list[HeldResponse] = []
        for held in self.held:
            if held.stamp + REORDER >= heard.until:
                break
            if held.stamp + REORDER < heard.of(held.host):
                due.append(held)
        return due

    def release(self, held: HeldResponse) -> bool:
        """Hold a response no longer; return False if it was not held."""
        if held not in self.held:
            return False
        self._remove(held)
        return True

    def _remove(self, held: HeldResponse) -> None:
        del self.held[held]
        own = self._owners[held.owner]
        del own[held]
        if not own:
            del self._owners[held.owner]
        packet = held.verdict.packet
        if packet is not None and self._by_packet.get(packet) is held:
            del self._by_packet[packet]
        self._remove_keys(held)

    def _remove_keys(self, held: HeldResponse) -> None:
        for key in held.keys:
            others = self._by_key.get(key, {})
            others.pop(held, None)
            if not others:
                self._by_key.pop(key, None)
