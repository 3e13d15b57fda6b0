"""Collects what processes reach, from their events: names, connections and DNS servers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping, Sized
from ipaddress import ip_address
from types import MappingProxyType

from dnstrail.captured import CLIENT, FORWARDER, Flow, Process
from dnstrail.connection_names import connection_to
from dnstrail.events import (
    DST_DNS,
    GETADDRINFO,
    NET_PACKET_DNS,
    NET_TCP_CLOSE,
    NET_TCP_CONNECT,
    NET_TCP_CONNECT_RESULT,
    NET_UDP_CONNECT,
    Event,
    Question,
)
from dnstrail.protocol.lookups import ConnectionTo
from dnstrail.tracee.codes import TYPES
from dnstrail_run.connections import CONNECTED, Connections, ReachedTarget
from dnstrail_run.report import (
    ANSWERED,
    FAILED,
    NO_DATA,
    NXDOMAIN,
    OUTCOMES,
    REFUSED,
    UNANSWERED,
    UNKNOWN,
    AskedName,
    DnsServer,
    Program,
    ReachedAddress,
)

#: names, connections, servers, and sockets that wait for a result or an end, each, in the report of `dnstrail run` ->
#: they are left out, and the capture is incomplete
MOST = 20_000
_DNS = 53  # the port
_CANDIDATES = 64  # names of a connection among which the command has asked one
_RESPONSE, _RCODE = 0x80, 0x0F
_RCODES = {3: NXDOMAIN, 5: REFUSED}


class _Asked:
    """The questions for one name: their number, the first asker, and the best outcome of each type."""

    __slots__ = ("by", "outcomes", "questions")

    def __init__(self, by: Program) -> None:
        self.by = by
        self.questions = 0
        self.outcomes: dict[int, str] = {}


class Reach:
    """The names, connections and servers that a group of processes reached.

    `resolvers` are the packed addresses of the configured resolvers; `named` has those of network namespaces with other
    ones, by the cookie of the namespace. A connection has the likeliest name that these
    processes asked: what others of this host ask does not name it. `left_out` counts what is beyond `most`.
    """

    def __init__(
        self,
        resolvers: Collection[bytes],
        most: int = MOST,
        named: Mapping[int, Collection[bytes]] = MappingProxyType({}),
    ) -> None:
        self._resolvers = resolvers
        self._named = named
        self._most = most
        self._left_out = 0
        self._names: dict[str, _Asked] = {}
        self._connections = Connections(most)
        self._servers: dict[tuple[str, int, Program], int] = {}

    def take(self, event: Event) -> None:
        """Take an event of these processes."""
        if event.event_name == NET_PACKET_DNS:
            self._dns(event)
        elif event.event_name in (NET_TCP_CONNECT, NET_UDP_CONNECT):
            self._connect(event)
        elif event.event_name == NET_TCP_CONNECT_RESULT:
            self._result(event)
        elif event.event_name == NET_TCP_CLOSE:
            self._close(event)

    def waits_for(self, event: Event) -> bool:
        """Return whether an event is about a socket of these processes that waits for its result or its end."""
        flow = event.captured.flow
        return flow is not None and flow.socket in self._connections

    @property
    def names(self) -> list[AskedName]:
        """The names that were asked, in the order of the first question."""
        return [
            AskedName(name, _best(one.outcomes), one.questions, one.by, _types(one.outcomes))
            for name, one in self._names.items()
        ]

    @property
    def connections(self) -> list[ReachedAddress]:
        """The connections, in the order of the first one."""
        return self._connections.reached(self._names)

    @property
    def foreign_dns(self) -> list[DnsServer]:
        """The servers that were asked, and are none of the configured resolvers."""
        return [DnsServer(address, port, count, program) for (address, port, program), count in self._servers.items()]

    def is_closing(self, ended: Container[int]) -> bool:
        """Return whether connections of processes that have `ended` are open: their ends are on the way."""
        return self._connections.are_open(ended)

    @property
    def left_out(self) -> int:
        """The number of events beyond the bounds."""
        return self._left_out + self._connections.left_out

    def complete_names(self, rank: Callable[[list[ConnectionTo]], list[list[str]]]) -> None:
        """Ask again for the names of the connections without one: the cache may have been behind at their events."""
        self._connections.complete_names(rank, self._names, _CANDIDATES)

    def _dns(self, event: Event) -> None:
        payload, flow, question = event.captured.payload, event.captured.flow, event.question
        if question is not None and GETADDRINFO in event.captured.args:
            self._note_answer(question, payload, event.process)  # a daemon has asked for this process
        if flow is None or flow.role not in (CLIENT, FORWARDER):
            return
        asks = question is not None and not payload[2] & _RESPONSE
        if flow.egress and (asks or _reaches_server(flow)):
            self._note_server(flow, event.process)
        if question is None or flow.egress != asks:
            return
        if not asks:
            self._note_answer(question, payload, event.process)
        elif event.at_asker or question.name not in self._names:  # else the asker is one of these processes
            self._note_question(question, event.process)

    def _note_question(self, question: Question, process: Process) -> None:
        if asked := self._asked(question.name, process):
            asked.questions += 1
            asked.outcomes.setdefault(question.type, UNANSWERED)

    def _note_answer(self, question: Question, payload: bytes, process: Process) -> None:
        if asked := self._asked(question.name, process):
            outcomes = asked.outcomes
            outcomes[question.type] = _better(outcomes.get(question.type, UNANSWERED), _outcome(payload))

    def _asked(self, name: str, process: Process) -> _Asked | None:
        asked = self._names.get(name)
        if asked is None and self._has_room(self._names):
            asked = self._names[name] = _Asked(_program(process))
        return asked

    def _note_server(self, flow: Flow, process: Process) -> None:
        server = flow.meant or flow.destination
        if self._is_configured(server, flow):
            return
        key = str(ip_address(server)), flow.meant_port or flow.destination_port, _program(process)
        if key in self._servers or self._has_room(self._servers):
            self._servers[key] = self._servers.get(key, 0) + 1

    def _connect(self, event: Event) -> None:
        flow, address, port = event.captured.flow, event.arg("dst"), event.arg("dst_port")
        if flow is None or not isinstance(address, str) or not isinstance(port, int) or not port:
            return  # nothing can be sent to port 0: glibc sorts addresses by such sockets
        if self._is_dns(flow):
            return
        names = tuple((event.arg(DST_DNS) or [])[:_CANDIDATES])
        target = ReachedTarget(names, address, port, flow.transport, _program(event.process))
        socket = flow.socket if event.event_name == NET_TCP_CONNECT else 0
        self._connections.attempt(target, connection_to(event), socket)

    def _result(self, event: Event) -> None:
        flow = event.captured.flow
        if flow is not None and not self._is_dns(flow):
            result = CONNECTED if event.arg("connected") is True else str(event.arg("error") or UNKNOWN)
            self._connections.result(flow.socket, result)

    def _close(self, event: Event) -> None:
        flow, sent, received = event.captured.flow, event.arg("bytes_sent"), event.arg("bytes_received")
        if flow is not None and not self._is_dns(flow):
            counted = (sent, received) if isinstance(sent, int) and isinstance(received, int) else None
            self._connections.end(flow.socket, counted)

    def _is_dns(self, flow: Flow) -> bool:
        """Return whether a connection carries DNS to a configured resolver."""
        return flow.destination_port == _DNS and self._is_configured(flow.destination, flow)

    def _is_configured(self, server: bytes, flow: Flow) -> bool:
        return server in self._named.get(flow.namespace, self._resolvers)

    def _has_room(self, table: Sized) -> bool:
        self._left_out += len(table) >= self._most
        return len(table) < self._most


def _reaches_server(flow: Flow) -> bool:
    """Return whether a message goes to the port of DNS, whatever it contains, and is not sent from there."""
    return (flow.meant_port or flow.destination_port) == _DNS != flow.source_port


def _program(process: Process) -> Program:
    return Program(process.pid, process.name, process.path, process.container_name or process.container_id)


def _outcome(payload: bytes) -> str:
    rcode = payload[3] & _RCODE
    if rcode:
        return _RCODES.get(rcode, FAILED)
    return ANSWERED if any(payload[6:8]) else NO_DATA


def _better(one: str, other: str) -> str:
    return min(one, other, key=OUTCOMES.index)


def _types(numbers: Collection[int]) -> list[str]:
    return [TYPES.get(number, f"TYPE{number}") for number in sorted(numbers)]


def _best(outcomes: dict[int, str]) -> str:
    return min(outcomes.values(), key=OUTCOMES.index, default=UNANSWERED)
