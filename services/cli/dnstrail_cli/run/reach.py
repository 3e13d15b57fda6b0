"""Collects what the processes of a command reach, from the events of the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sized
from ipaddress import ip_address

from dnstrail.captured import CLIENT, FORWARDER, Flow, Process
from dnstrail.connection_names import DST_DNS, connection_to
from dnstrail.events import (
    GETADDRINFO,
    NET_PACKET_DNS,
    NET_TCP_CLOSE,
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
from dnstrail_cli.run.connections import CONNECTED, MOST, Connections, Target
from dnstrail_cli.run.report import (
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

TOPICS = (
    NET_PACKET_DNS,
    NET_TCP_CLOSE,
    NET_TCP_CONNECT,
    NET_TCP_CONNECT_RESULT,
    NET_UDP_CONNECT,
    SCHED_PROCESS_FORK,
    SCHED_PROCESS_EXIT,
)
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
    """The names, connections and servers that the processes of one cgroup reached.

    A process belongs to the command if it is in the cgroup, or if a process of the command forked it. `resolvers` are
    the packed addresses of the configured resolvers. A connection has the likeliest name that the command asked: what
    others of this host ask does not name it. `ended` holds the processes whose end was seen.
    """

    def __init__(self, cgroup: int, resolvers: Collection[bytes]) -> None:
        self.ended: set[int] = set()
        self._cgroup = cgroup
        self._resolvers = resolvers
        self._processes: set[int] = set()
        self._left_out = 0
        self._names: dict[str, _Asked] = {}
        self._connections = Connections()
        self._servers: dict[tuple[str, int, Program], int] = {}

    def begin(self, pid: int) -> None:
        """Note the process of the command."""
        self._processes.add(pid)

    def take(self, event: Item) -> None:
        """Take an event, if it belongs to the command."""
        if not isinstance(event, Event):
            return
        process, flow = event.process, event.captured.flow
        if event.event_name == NET_TCP_CLOSE:  # the process may have ended, and its id be that of another one
            if flow and (process.cgroup_id == self._cgroup or flow.socket in self._connections):
                self._close(event, flow)
            return
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
        return self._connections.reached(self._names)

    @property
    def foreign_dns(self) -> list[DnsServer]:
        """The servers that were asked, and are none of the configured resolvers."""
        return [DnsServer(address, port, count, program) for (address, port, program), count in self._servers.items()]

    @property
    def closing(self) -> bool:
        """True if a process has ended, and the end of a connection of its is on the way."""
        return self._connections.are_open(self.ended)

    @property
    def left_out(self) -> int:
        """The number of events beyond MOST."""
        return self._left_out + self._connections.left_out

    def complete_names(self, rank: Callable[[list[ConnectionTo]], list[list[str]]]) -> None:
        """Ask again for the names of the connections without one: the cache may have been behind at their events."""
        self._connections.complete_names(rank, self._names, _CANDIDATES)

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
        target = Target(names, address, port, flow.transport, _program(event.process))
        socket = flow.socket if event.event_name == NET_TCP_CONNECT else 0
        self._connections.attempt(target, connection_to(event), socket)

    def _result(self, event: Event) -> None:
        flow = event.captured.flow
        if flow is not None and not self._is_dns(flow):
            result = CONNECTED if event.arg("connected") is True else str(event.arg("error") or UNKNOWN)
            self._connections.result(flow.socket, result)

    def _close(self, event: Event, flow: Flow) -> None:
        sent, received = event.arg("bytes_sent"), event.arg("bytes_received")
        if not self._is_dns(flow):
            counted = (sent, received) if isinstance(sent, int) and isinstance(received, int) else None
            self._connections.end(flow.socket, counted)

    def _is_dns(self, flow: Flow) -> bool:
        """Return whether a connection carries DNS to a configured resolver."""
        return flow.destination_port == _DNS and flow.destination in self._resolvers

    def _has_room(self, table: Sized) -> bool:
        self._left_out += len(table) >= MOST
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
