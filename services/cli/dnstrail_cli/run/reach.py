"""Collects what the processes of a command reach, from the events of the pipeline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sized
from ipaddress import ip_address
from typing import NamedTuple

from dnstrail.captured import CLIENT, FORWARDER, Flow, Process
from dnstrail.connection_names import DST_DNS, connection_to
from dnstrail.events import (
    GETADDRINFO,
    NET_PACKET_DNS,
    NET_TCP_CONNECT,
    NET_TCP_CONNECT_RESULT,
    NET_UDP_CONNECT,
    SCHED_PROCESS_EXIT,
    SCHED_PROCESS_FORK,
    Event,
    Question,
)
from dnstrail.protocol.lookups import ConnectionTo
from dnstrail_cli.events.sightings import Item
from dnstrail_cli.run.report import (
    ANSWERED,
    FAILED,
    NO_DATA,
    NXDOMAIN,
    OUTCOMES,
    REFUSED,
    UNANSWERED,
    AskedName,
    DnsServer,
    Program,
    ReachedAddress,
)

TOPICS = (
    NET_PACKET_DNS,
    NET_TCP_CONNECT,
    NET_TCP_CONNECT_RESULT,
    NET_UDP_CONNECT,
    SCHED_PROCESS_FORK,
    SCHED_PROCESS_EXIT,
)
MOST = 20_000  # names, connections and servers, each
OTHERS = 8  # further names of one address
_DNS = 53  # the port
AT_ONCE = 64  # connections in one lookup
_CANDIDATES = 64  # names of a connection among which the command has asked one
UNKNOWN = "unknown"
_RESPONSE, _RCODE = 0x80, 0x0F
_RCODES = {3: NXDOMAIN, 5: REFUSED}


class _Connection(NamedTuple):
    names: tuple[str, ...]  # the likeliest first
    address: str
    port: int
    transport: str
    program: Program


class _Asked:
    """The questions for one name: their number, the first asker, and the best outcome of each type."""

    __slots__ = ("by", "outcomes", "questions")

    def __init__(self, by: Program) -> None:
        self.by = by
        self.questions = 0
        self.outcomes: dict[int, str] = {}


class Reach:
    """The names, connections and servers that the processes of one cgroup reached.

    A process belongs to the command if it is in the cgroup, or if a process of the command forked it. `resolvers` are
    the packed addresses of the configured resolvers. A connection has the likeliest name that the command asked: what
    others of this host ask does not name it. `left_out` counts what is beyond MOST. `ended` holds the processes
    whose end was seen.
    """

    def __init__(self, cgroup: int, resolvers: Collection[bytes]) -> None:
        self.left_out = 0
        self.ended: set[int] = set()
        self._cgroup = cgroup
        self._resolvers = resolvers
        self._processes: set[int] = set()
        self._names: dict[str, _Asked] = {}
        self._connections: dict[_Connection, Counter[str]] = {}
        self._requests: dict[_Connection, ConnectionTo] = {}
        self._sockets: dict[int, _Connection] = {}
        self._early: dict[int, str] = {}
        self._servers: dict[tuple[str, int, Program], int] = {}

    def begin(self, pid: int) -> None:
        """Note the process of the command."""
        self._processes.add(pid)

    def take(self, event: Item) -> None:
        """Take an event, if it belongs to the command."""
        if not isinstance(event, Event):
            return
        process = event.process
        if process.cgroup_id != self._cgroup and process.pid not in self._processes:
            return
        self._processes.add(process.pid)
        if event.event_name == NET_PACKET_DNS:
            self._dns(event)
        elif event.event_name in (NET_TCP_CONNECT, NET_UDP_CONNECT):
            self._connect(event)
        elif event.event_name == NET_TCP_CONNECT_RESULT:
            self._result(event)
        elif event.event_name == SCHED_PROCESS_FORK and isinstance(child := event.arg("child_pid"), int):
            self._processes.add(child)
        elif event.event_name == SCHED_PROCESS_EXIT:
            self._processes.discard(process.pid)
            self.ended.add(process.pid)

    @property
    def names(self) -> list[AskedName]:
        """The names that were asked, in the order of the first question."""
        return [AskedName(name, _best(one.outcomes), one.questions, one.by) for name, one in self._names.items()]

    @property
    def connections(self) -> list[ReachedAddress]:
        """The connections, in the order of the first one."""
        found: dict[_Connection, ReachedAddress] = {}
        for reached, results in self._connections.items():
            name = next((one for one in reached.names if one in self._names), "")
            others = [one for one in reached.names if one != name][:OTHERS]
            known = found.setdefault(
                reached._replace(names=(name,)),
                ReachedAddress(name, reached.address, reached.port, reached.transport, reached.program, {}, others),
            )
            for result, count in results.items():
                known.results[result] = known.results.get(result, 0) + count
        return [*found.values()]

    @property
    def foreign_dns(self) -> list[DnsServer]:
        """The servers that were asked, and are none of the configured resolvers."""
        return [DnsServer(address, port, count, program) for (address, port, program), count in self._servers.items()]

    def complete_names(self, rank: Callable[[list[ConnectionTo]], list[list[str]]]) -> None:
        """Ask again for the names of the connections without one: the cache may have been behind at their events."""
        unnamed = [one for one in self._requests if self._names.keys().isdisjoint(one.names)]
        for first in range(0, len(unnamed), AT_ONCE):
            some = unnamed[first : first + AT_ONCE]
            for reached, names in zip(some, rank([self._requests[one] for one in some]), strict=True):
                named = reached._replace(names=tuple(names[:_CANDIDATES]))
                results = self._connections.pop(reached)
                self._connections[named] = self._connections.get(named, Counter()) + results

    def _dns(self, event: Event) -> None:
        payload, flow, question = event.captured.payload, event.captured.flow, event.question
        if question is not None and GETADDRINFO in event.captured.args:
            self._note_answer(question, payload, event.process)  # a daemon has asked for this process
        if question is None or flow is None or flow.role not in (CLIENT, FORWARDER) or not event.at_asker:
            return
        if not payload[2] & _RESPONSE:
            if flow.egress and (asked := self._asked(question.name, event.process)):
                asked.questions += 1
                asked.outcomes.setdefault(question.type, UNANSWERED)
                self._note_server(flow, event.process)
        elif not flow.egress:
            self._note_answer(question, payload, event.process)

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
        if server in self._resolvers:
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
        reached = _Connection(names, address, port, flow.transport, _program(event.process))
        if reached not in self._connections:
            if not self._has_room(self._connections):
                return
            self._connections[reached] = Counter()
            if (to := connection_to(event)) is not None:
                self._requests[reached] = to
        result = self._early.pop(flow.socket, UNKNOWN) if event.event_name == NET_TCP_CONNECT else UNKNOWN
        self._connections[reached][result] += 1
        if event.event_name == NET_TCP_CONNECT and result == UNKNOWN and self._has_room(self._sockets):
            self._sockets[flow.socket] = reached

    def _result(self, event: Event) -> None:
        """Note a result. The events of one turn come by their names: a result may come before its connection."""
        flow = event.captured.flow
        if flow is None or self._is_dns(flow):
            return
        result = "connected" if event.arg("connected") is True else str(event.arg("error") or UNKNOWN)
        reached = self._sockets.pop(flow.socket, None)
        if reached is None:
            if self._has_room(self._early):
                self._early[flow.socket] = result
            return
        results = self._connections[reached]
        results[UNKNOWN] -= 1
        if not results[UNKNOWN]:
            del results[UNKNOWN]
        results[result] += 1

    def _is_dns(self, flow: Flow) -> bool:
        """Return whether a connection carries DNS to a configured resolver."""
        return flow.destination_port == _DNS and flow.destination in self._resolvers

    def _has_room(self, table: Sized) -> bool:
        self.left_out += len(table) >= MOST
        return len(table) < MOST


def _program(process: Process) -> Program:
    return Program(process.pid, process.name, process.path, process.container_name or process.container_id)


def _outcome(payload: bytes) -> str:
    rcode = payload[3] & _RCODE
    if rcode:
        return _RCODES.get(rcode, FAILED)
    return ANSWERED if any(payload[6:8]) else NO_DATA


def _better(one: str, other: str) -> str:
    return min(one, other, key=OUTCOMES.index)


def _best(outcomes: dict[int, str]) -> str:
    return min(outcomes.values(), key=OUTCOMES.index, default=UNANSWERED)
