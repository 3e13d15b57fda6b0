"""A host whose processes ask names and connect: for tests of the names that connections mean."""

from __future__ import annotations

from itertools import count
from typing import Any

from msgspec.structs import replace

from builders.dns_builders import AAAA, A, by_hand, record, t
from builders.talk import back, packed, query, there
from dnstrail.captured import Captured, Flow, Process
from dnstrail.connection import Connection
from dnstrail.events import (
    DNS_SOCKET_CLOSE,
    EFFECTS,
    NET_PACKET_DNS,
    NET_TCP_CLOSE,
    NET_TCP_CONNECT,
    NET_TCP_CONNECT_RESULT,
    NET_UDP_CONNECT,
    SCHED_PROCESS_EXEC,
    SCHED_PROCESS_EXIT,
    SCHED_PROCESS_FORK,
)
from dnstrail.image import Bounds, Image
from dnstrail.image.apply import apply_event
from dnstrail.image.binding.bindings import Binding

SHARED, SHARED6, OTHER = "192.0.2.1", "2001:db8::1", "192.0.2.2"
APP = Process(70, "app", parent_pid=7, thread_id=70, start_time=t(-100))


def thread(of: Process, number: int) -> Process:
    """Return a process as an event of one of its threads contains it."""
    return Process(of.pid, of.name, parent_pid=of.parent_pid, thread_id=number, start_time=of.start_time)


class Host:
    """The image of one host; times are seconds after T."""

    def __init__(self, **bounds: Any) -> None:
        self.image = Image(Bounds(**bounds))
        self._events = count()
        self._sockets = count(1)
        self.socket = 0  # of the last connection
        self._asked: dict[int, list[Flow]] = {}  # by thread: the sockets that are open

    def apply(self, topic: str, after: float, flow: Flow | None = None, process: Process | None = None, **args: Any):
        """Apply one event."""
        event = Captured(t(after), b"", flow, process, args)
        name = {"batch": f"s/{topic}/1", "place": next(self._events)}
        apply_event(self.image, EFFECTS.get(topic, ""), event, live=True, **name)

    def dns(self, after: float, payload: bytes, flow: Flow, process: Process) -> None:
        """Apply one DNS message."""
        apply_event(self.image, EFFECTS[NET_PACKET_DNS], Captured(t(after), payload, flow, process), live=True)

    def asks(
        self, after: float, name: str, *addresses: str, by: Process = APP, answered: float = 0.001, ttl: int = 60
    ) -> Host:
        """Let a process ask a name; the answer comes `answered` seconds later, one for each family."""
        for kind, texts in ((A, [one for one in addresses if ":" not in one]), (AAAA, [*filter(is_v6, addresses)])):
            if not texts and addresses:
                continue
            flow = self.queries(after, name, kind, by)
            records = [record(b"\xc0\x0c", kind, packed(text), ttl) for text in texts or [SHARED]]
            payload = by_hand(query(name, kind)[12:], *records)
            self.dns(after + answered, payload, back(flow), by)
        return self

    def queries(self, after: float, name: str, kind: int, by: Process) -> Flow:
        """Let a thread send a query by a socket of its own; return its flow."""
        flow = self._asking()
        self._asked.setdefault(by.thread_id, []).append(flow)
        self.dns(after, query(name, kind), flow, by)
        return flow

    def hears(self, after: float, name: str, address: str = SHARED, by: Process = APP) -> None:
        """Let a process receive an answer to a question that was not captured."""
        payload = by_hand(query(name)[12:], record(b"\xc0\x0c", A, packed(address), 60))
        self.dns(after, payload, back(self._asking()), by)

    def connects(self, after: float, address: str = SHARED, by: Process = APP, *, port: int = 443, **flow: Any) -> str:
        """Let a process connect, with these fields of its flow; return the name that the connection means."""
        self.socket = next(self._sockets)
        topic = NET_UDP_CONNECT if flow.get("transport") == "udp" else NET_TCP_CONNECT
        self.apply(topic, after, replace(self.flow(address, port), **flow), by, dst=address, dst_port=port)
        return self.binding.name

    def concludes(self, after: float, socket: int = 0, *, connected: bool = True, error: str = "") -> None:
        """State the outcome of a connection, by default of the last one."""
        flow = replace(self.flow(SHARED, 443, socket), source=packed("10.0.0.2"), source_port=50000)
        self.apply(NET_TCP_CONNECT_RESULT, after, flow, APP, dst=SHARED, dst_port=443, connected=connected, error=error)

    def returns(self, after: float, by: Process, *, sockets: int = 0) -> None:
        """Let a thread close so many sockets by which it asked, the first ones, or all: it has its answers."""
        asked = self._asked[by.thread_id]
        for flow in asked[: sockets or None]:
            self.apply(DNS_SOCKET_CLOSE, after, flow, by, socket=flow.socket)
        del asked[: sockets or None]

    def closes(self, after: float, **counted: int) -> None:
        """Close the last connection, with the bytes of its event."""
        self.apply(NET_TCP_CLOSE, after, self.flow(SHARED, 443), APP, dst=SHARED, dst_port=443, **counted)

    def opens(self, after: float, address: str = SHARED, by: Process = APP) -> str:
        """Let a process connect with success; return the name that the connection means."""
        name = self.connects(after, address, by)
        self.concludes(after + 0.0001)
        return name

    def forks(self, after: float, child: int, by: Process = APP) -> None:
        """Let a process fork."""
        self.apply(SCHED_PROCESS_FORK, after, None, by, child_pid=child)

    def execs(self, after: float, by: Process) -> None:
        """Let a process run a program."""
        self.apply(SCHED_PROCESS_EXEC, after, None, by)

    def exits(self, after: float, by: Process = APP) -> None:
        """Let a process end."""
        self.apply(SCHED_PROCESS_EXIT, after, None, by)

    def bound(self, after: float, address: str = SHARED, *, past: bool = False, **connection: Any) -> str:
        """Return the name to which trails find a connection bound, as of now or of the past; "" if they find none."""
        when = {"at": t(after)} if past else {"now": t(after)}
        found = self.image.trails(address, Connection(**connection), **when)
        first = found.trails[0] if found and found.trails else None
        return first.dns_root if first and first.reasons[0].startswith("bound") else ""

    def scope(self, after: float, address: str = SHARED, **connection: Any) -> str:
        """Return the narrowest scope of the trails to an address as of a time of the past."""
        found = self.image.trails(address, Connection(**connection), at=t(after))
        assert found is not None
        return found.scope

    @property
    def binding(self) -> Binding:
        """The binding of the last connection."""
        found = self.image.binder.bindings.of_socket(("", self.socket))
        assert found is not None
        return found

    def _asking(self) -> Flow:
        """Return the flow of a query from a socket of its own."""
        number = next(self._sockets)
        return there(port=10000 + number % 50000, socket=number + 10**6, namespace=1, egress=True)

    def flow(self, address: str, port: int, socket: int = 0) -> Flow:
        """Return the flow of a connection event."""
        return Flow(b"", 0, packed(address), port, "tcp", socket or self.socket, 1, egress=True)


def is_v6(address: str) -> bool:
    """Return whether an address is IPv6."""
    return ":" in address
