"""The name that each connection means, decided when the connection is applied (docs/inside/image.md)."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from dnstrail.captured import FORWARDER, Process
from dnstrail.connection import Connection
from dnstrail.dns.header import HeaderQuestion as Asked
from dnstrail.dns.names import address_text
from dnstrail.dns.rdata import Kind
from dnstrail.image.answer import Answer, Circumstances
from dnstrail.image.binding.bindings import (
    BY_DAEMON,
    BY_LAST,
    BY_PARENT,
    BY_PROCESS,
    BY_THREAD,
    UNKNOWN,
    Binding,
    Bindings,
    ConnectionOpening,
    Meaning,
    SocketKey,
)
from dnstrail.image.binding.processes import DAEMONS, Identity, Namespaces, Processes, identity_of
from dnstrail.image.binding.scope import SOON, is_sinkhole, last_question
from dnstrail.image.binding.waiting import (
    Arrival,
    Close,
    ConnectionAttempt,
    ReceivedAnswer,
    SentQuery,
    WaitingQuestion,
    WaitingQuestions,
    candidate,
    weight,
)
from dnstrail.image.binding.waits import Waits
from dnstrail.image.bounds import Bounds, Counts
from dnstrail.image.graph import Graph
from dnstrail.image.record import Sighting

_ADDRESSES = (Kind.A, Kind.AAAA)
_HINTS = (Kind.SVCB, Kind.HTTPS)  # their targets are names, or addresses that they hint at


class Binder:
    """The processes, the questions that wait for a connection, and the connections with their names.

    A connection spends the question of its own thread, else the oldest of its process, else of the parent process, else
    of a daemon that asks for others. Without any it means the last question of the narrowest scope, and spends nothing.
    So does a connection over UDP: a client tries QUIC and TCP for one question.
    """

    def __init__(self, graph: Graph, bounds: Bounds, counters: Counts) -> None:
        self.processes = Processes(bounds.processes, bounds.probes, counters)
        self.waits = Waits(bounds.questions, counters)
        self.namespaces = Namespaces(counters)
        self.bindings = Bindings(bounds.connections, bounds.history_ns, counters)
        self._graph = graph
        self._grace = bounds.grace_ns

    def asked(self, stamp: int, asked: Asked, circumstances: Circumstances) -> None:
        """Note a query of a process."""
        flow, process = circumstances.flow, circumstances.process
        if flow is None or not flow.egress or process is None:
            return
        if process.name in DAEMONS:
            self.namespaces.asked(circumstances.host, flow.namespace, process)
        pid, socket = process.pid, flow.socket
        if pid and socket and asked.name and flow.transport == "udp" and flow.role != FORWARDER:
            owner = circumstances.host, pid, process.start_time
            self._arrived(owner, process, SentQuery(asked, process.thread_id, socket, stamp), stamp)

    def answered(self, answer: Answer, sighting: Sighting, asked: int, host: str) -> None:
        """Note an answer to a process that is no doubted one. `asked` is the stamp of the query (ns)."""
        process = sighting.evidence.process
        if process is not None and process.pid:
            owner = host, process.pid, process.start_time
            received = ReceivedAnswer(answer, sighting, asked)
            self._arrived(owner, process, received, sighting.stamp, weight(len(answer.edges)))

    def connect(self, stamp: int, opening: ConnectionOpening) -> Binding:
        """Bind a connection to the name that it means, as of its time."""
        owner = opening.identity
        if owner is not None:
            self.processes.note(owner, stamp)
        question, by = (None, UNKNOWN) if opening.transport == "udp" else self._candidate(stamp, opening, owner)
        if question is not None:
            binding = Binding(stamp, opening, question.name, by)
            binding.question, binding.attempt = question, ConnectionAttempt(stamp, opening.address, opening.thread)
            self.waits.spend(question, binding.attempt)
        else:
            name = self._last_question(stamp, opening)
            binding = Binding(stamp, opening, name, BY_LAST if name else UNKNOWN)
        self.bindings.open(binding)
        return binding

    def closed(self, host: str, process: Process, socket: int, stamp: int) -> None:
        """Note that a process closed a socket by which it asked: it has the answers."""
        if (owner := identity_of(host, process)) is not None:
            self._arrived(owner, process, Close(socket, stamp), stamp)

    def forked(self, host: str, parent: Process | None, child: int, stamp: int) -> None:
        """Note a child of a process."""
        if (owner := identity_of(host, parent)) is not None:
            self.processes.note(owner, stamp)
            self.processes.forked(owner, child, stamp)

    def executed(self, host: str, process: Process | None, stamp: int) -> None:
        """Note that a process runs a program."""
        if (owner := identity_of(host, process)) is not None:
            self.processes.note(owner, stamp)

    def exited(self, host: str, process: Process | None, stamp: int) -> None:
        """Note the end of a process, and of its connections."""
        if (owner := identity_of(host, process)) is not None:
            self.processes.ended(owner, stamp)
            self._questions(owner)
            if (part := self.waits.of(owner)) is not None:
                part.waiting.ended(owner)
            self.bindings.end_process(owner, stamp)

    def concluded(
        self, socket: SocketKey, stamp: int, source: tuple[str, int], *, connected: bool, error: str = ""
    ) -> None:
        """Note the outcome of the attempt of a socket, and its source. An attempt that failed is no open connection."""
        binding = self.bindings.of_socket(socket)
        if binding is None:
            return
        binding.client, binding.client_port = source
        binding.connected = connected
        if binding.attempt is not None:
            binding.attempt.connected = connected
        if connected:
            self.namespaces.connected(binding.opening.host, binding.opening.namespace, binding.opening.address)
        if connected and binding.question is not None and binding.attempt is not None:
            self.waits.drop_spent(binding.question, binding.attempt)
            binding.question = binding.attempt = None
        self.bindings.conclude(binding, stamp, error)

    def meaning(self, address: str, connection: Connection, at: int) -> Meaning | None:
        """Return the name of a connection that was open at a time; None if none is known."""
        binding = self.find(address, connection, at)
        found = None if binding is None else binding.meant(at)
        return found if found is not None and found.name else None

    def find(self, address: str, connection: Connection, at: int) -> Binding | None:
        """Return the last connection to an address that was open at a time and has all these properties.

        They must mean one connection (`Connection.means_one`).
        """
        if not connection.means_one:
            return None
        asked = self.identified(connection, at)
        found = (one for one in self.bindings.to(address) if one.is_open(at) and _is_meant(one, asked))
        return next(found, None)

    def identified(self, connection: Connection, at: int) -> Connection:
        """Return a connection with the start of its process at a time: a pid is used again."""
        if not connection.process or connection.starts is not None:
            return connection
        return replace(connection, starts=self.processes.starts_of(connection.process, at))

    def _candidate(
        self, stamp: int, opening: ConnectionOpening, owner: Identity | None
    ) -> tuple[WaitingQuestion | None, str]:
        """Return the question that a connection spends, and how it was found."""
        process = opening.process
        if owner is None or process is None:
            return None, UNKNOWN
        question = self._first(self._questions(owner), stamp, opening, opening.thread)
        if question is not None:
            return question, BY_THREAD if opening.thread in question.threads else BY_PROCESS
        if is_sinkhole(opening.address):
            return None, UNKNOWN
        parent = self.processes.parent_of(opening.host, process)
        if parent is not None:
            question = self._first(self._questions(parent), stamp, opening)
        return (self._of_daemon(stamp, opening), BY_DAEMON) if question is None else (question, BY_PARENT)

    def _of_daemon(self, stamp: int, opening: ConnectionOpening) -> WaitingQuestion | None:
        """Return the question of a daemon that a connection of another process spends: it was answered within SOON."""
        for daemon in self.namespaces.of(opening.host, opening.namespace).daemons.values():
            questions = self._questions(daemon)
            recent = (one for one in questions if one.last is not None or one.was_given(opening.address, stamp, SOON))
            question = self._first(recent, stamp, opening, opening.thread)
            if question is not None:
                return question
        return None

    def _first(
        self, questions: Iterable[WaitingQuestion], stamp: int, opening: ConnectionOpening, thread: int = 0
    ) -> WaitingQuestion | None:
        ipv6 = self.namespaces.of(opening.host, opening.namespace).uses_ipv6
        return candidate(questions, opening.address, stamp, thread, ipv6=ipv6)

    def _questions(self, owner: Identity) -> Iterable[WaitingQuestion]:
        """Return the questions of a process, with what has arrived since the last call."""
        part = self.waits.of(owner)
        if part is None:
            return ()
        waiting = part.waiting
        for arrival in part.arrivals.take(owner):
            if isinstance(arrival, ReceivedAnswer):
                self._answered(waiting, owner, arrival)
            elif isinstance(arrival, SentQuery):
                waiting.asked(owner, arrival)
            else:
                waiting.closed(owner, arrival)
        self.waits.taken(owner, part)
        return waiting.of(owner)

    def _answered(self, waiting: WaitingQuestions, owner: Identity, received: ReceivedAnswer) -> None:
        """Add the addresses that an answer gave to the question of its process."""
        answer, sighting = received.answer, received.sighting
        given = [
            (target, (sighting.stamp, sighting.stamp + life + self._grace))
            for (_, kind, target), life in zip(answer.edges, answer.lives, strict=True)
            if kind in _ADDRESSES or (kind in _HINTS and address_text(target) is not None)
        ]
        process = sighting.evidence.process
        if given and process is not None:
            waiting.answered(owner, process.thread_id, answer.question, answer.type, received.asked, given)

    def _arrived(self, owner: Identity, process: Process, arrival: Arrival, stamp: int, times: int = 1) -> None:
        part = self.waits.join(owner, process)
        if part.arrivals.add(owner, arrival, times):
            self.processes.note(owner, stamp)
        self.waits.added(part)

    def _last_question(self, stamp: int, opening: ConnectionOpening) -> str:
        return last_question(self._graph, stamp, connection_of(opening), opening.address, self._grace)


def _is_meant(binding: Binding, connection: Connection) -> bool:
    opening, asked = binding.opening, connection
    process = opening.process or Process()
    return (
        asked.process in (None, process.pid)
        and asked.host in (None, opening.host)
        and (asked.starts is None or process.start_time in asked.starts)
        and asked.container in (None, process.container_id)
        and asked.port in (None, opening.port)
        and asked.source_port in (None, binding.client_port)
        and asked.client in (None, binding.client or asked.client)
    )


def connection_of(opening: ConnectionOpening) -> Connection:
    """Return the client side of a connection, as trails rank by it."""
    process = opening.process or Process()
    return Connection(
        process=process.pid or None,
        container=process.container_id or None,
        client=opening.client or None,
        port=opening.port,
        starts=frozenset({process.start_time}) if process.pid else None,
        host=opening.host or None,
    )
