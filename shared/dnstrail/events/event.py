"""An event as signatures and outputs read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

import msgspec

from dnstrail.captured import ASKER_SEEN, Captured, Process
from dnstrail.container import is_roots
from dnstrail.dns import ResourceRecord, decode
from dnstrail.dns.header import QR, Header, read_header, read_usual_answer
from dnstrail.dns.message import read_question
from dnstrail.dns.rdata import ADDRESSES
from dnstrail.errors import BadMessage
from dnstrail.events import FACT_ID, FACT_NAMES

if TYPE_CHECKING:
    from dns.message import Message as WholeMessage

SOURCE = "tracee"  # of every event and finding, as event selectors name it
ORIGINS = HOST, CONTAINER = ("host", "container")  # of an event, as event selectors name them
#: addresses of one answer in `event.addresses` -> further ones do not count
MOST_ADDRESSES = 128  # so that one answer costs a signature little time, and evicts little


_Value = TypeVar("_Value")


class _OnDemand(Generic[_Value]):
    """A property of an event that is computed once, by one thread.

    `cached_property` takes a lock before Python 3.12, which costs more than most of these values.
    """

    def __init__(self, compute: Callable[[Event], _Value]) -> None:
        self.__doc__ = compute.__doc__
        self._compute = compute

    def __set_name__(self, _owner: type[Event], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, event: None, _owner: type[Event]) -> Self: ...
    @overload
    def __get__(self, event: Event, _owner: type[Event]) -> _Value: ...
    def __get__(self, event: Event | None, _owner: type[Event]) -> Self | _Value:
        if event is None:  # a property is read of the class, as by tools for documentation
            return self
        value = event.__dict__[self._name] = self._compute(event)
        return value


@dataclass(frozen=True, slots=True)
class Executable:
    """The program of a process."""

    path: str = ""


class Question(msgspec.Struct, frozen=True, gc=False):
    """The question of a DNS message: its name in the form of lookups, and the numbers of its type and class."""

    name: str
    type: int
    cls: int


@dataclass(frozen=True)
class Event:
    """One event as signatures and outputs read it: what was captured, under the name of the event.

    `mark` is (start id of the probe, turn). A lookup that carries it answers from this event or from a later state.
    `coverage` is the part of the probe's events of the last seconds that was received: 1 if none was lost, None before
    anything is known. `difference` is wall time minus the clock of the probe in ns: `captured` contains times of that
    clock, which never steps. A finding is an event too: its data are its `args`. `place` is the place of the event
    among all events of the run of its probe: topic, batch, and position in the batch.
    """

    event_name: str
    captured: Captured
    mark: tuple[str, int] | None = None
    host_name: str = ""
    args: dict[str, Any] = field(default_factory=dict)
    coverage: float | None = None
    difference: int = 0
    place: tuple[str | int, ...] = ()

    @property
    def id(self) -> str:
        """The identity of the event: the same for every worker that handles it; "" if it did not come by the bus.

        A fact has one of its own, which stays if a cache publishes it again.
        """
        if self.event_name in FACT_NAMES:
            return str(self.captured.args.get(FACT_ID, ""))
        return "/".join(map(str, (self.mark[0], *self.place))) if self.mark and self.place else ""

    @property
    def source(self) -> str:
        """The source of the event in the sense of an event selector."""
        return SOURCE

    @property
    def time(self) -> tuple[str, int] | None:
        """The start id of the probe and the time on its clock, as lookups name the time of an event; None without."""
        return None if self.mark is None else (self.mark[0], self.captured.timestamp)

    @property
    def owner(self) -> tuple[str, int] | None:
        """The host and the cgroup to which the process belongs in shares, as lookups name them; None if unknown."""
        process = self.captured.process
        if process is None or not process.cgroup_id:
            return None
        return self.host_name, process.owner or process.cgroup_id

    @property
    def timestamp(self) -> int:
        """The wall time of the event in nanoseconds since the epoch."""
        return self.captured.timestamp + self.difference

    @property
    def process(self) -> Process:
        """The process that caused the event; all zero if the source does not provide it."""
        return self.captured.process or Process()

    @property
    def process_id(self) -> int:
        """The id of the process, 0 if unknown."""
        return self.process.pid

    @property
    def process_name(self) -> str:
        """The name of the process, "" if unknown."""
        return self.process.name

    @property
    def executable(self) -> Executable:
        """The program of the process; its path is "" if unknown."""
        return Executable(self.process.path)

    @property
    def container_id(self) -> str:
        """The id of the container, "" on the host; that of a user's container begins with the user and a slash."""
        return self.process.container_id

    @property
    def unit(self) -> str:
        """The systemd unit, "" if there is none; a unit of a user begins with the user and a slash."""
        return self.process.unit

    @property
    def slice(self) -> str:
        """The slice of systemd, "" if there is none; a slice of a user begins with the user and a slash."""
        return self.process.slice

    @property
    def origin(self) -> str:
        """The origin in the sense of an event selector: "container" or "host", also in a container of a user."""
        return CONTAINER if is_roots(self.container_id) else HOST

    @property
    def role(self) -> str:
        """The role of the process in this DNS exchange: "client", "server", "forwarder" (both), or "" if unknown."""
        flow = self.captured.flow
        return flow.role if flow else ""

    @property
    def at_asker(self) -> bool:
        """Whether this capture of a DNS message is the nearest to its asker: the client's end, or the only one.

        A forwarder and a server on the host of the client capture a question and its answer again.
        """
        return not self.captured.args.get(ASKER_SEEN, False)

    def arg(self, name: str) -> Any:
        """Return an argument by its name in tracee (`src`, `dst`, `src_port`, `dst_port`, ...), or None."""
        if name in self.args:
            return self.args[name]
        flow = self.captured.flow
        if flow is not None and name in _FLOW_ARGS:
            return getattr(flow, _FLOW_ARGS[name])
        return self.captured.args.get(name)

    @_OnDemand
    def header(self) -> Header | None:
        """The header of the DNS message, and its question if it has exactly one; None if they are cut short."""
        try:
            return read_header(self.captured.payload)
        except BadMessage:
            return None

    @_OnDemand
    def question(self) -> Question | None:
        """The question of the DNS message, or None unless it has exactly one."""
        header = self.header
        if header is None or not header.question:
            return None
        asked = header.asked
        name = asked.name or read_question(self.captured.payload, {})[0]  # the name is not an ordinary one
        return Question(name, asked.type, asked.cls)

    @_OnDemand
    def answers(self) -> tuple[ResourceRecord, ...]:
        """The answers of a DNS response with one question: those of class IN and of a type that makes relations.

        The work is linear in the size of the message. A damaged message has the answers before the damage.
        """
        try:
            return tuple(decode(self.captured.payload).answers)
        except BadMessage:
            return ()

    @_OnDemand
    def asked(self) -> Question | None:
        """The question of a query at its asker; None for every other event."""
        header = self.header
        return self.question if header is not None and not header.flags & QR and self.at_asker else None

    @_OnDemand
    def answered(self) -> Question | None:
        """The question of a response at its asker; None for every other event."""
        header = self.header
        return self.question if header is not None and header.flags & QR and self.at_asker else None

    @_OnDemand
    def addresses(self) -> Mapping[str, int]:
        """The first MOST_ADDRESSES addresses among the answers, each with its TTL."""
        header = self.header
        if header is None or not header.question or not header.flags & QR:
            return {}
        usual = read_usual_answer(self.captured.payload, header.asked, header.answer_count)
        if usual is None:
            records = ((str(one.target), one.ttl) for one in self.answers if one.type in ADDRESSES)
        else:
            records = ((target, ttl) for (_, kind, target), ttl in zip(*usual, strict=True) if kind in ADDRESSES)
        return dict(islice(records, MOST_ADDRESSES))

    @property
    def dns(self) -> WholeMessage | None:
        """The whole DNS message, parsed by dnspython on demand, or None if there is none within the bounds.

        A damaged message holds the records before the damage. `question` and `answers` cost less.
        """
        return self._whole[0]

    @property
    def dns_error(self) -> str:
        """The reason why `dns` is None although the event carries a payload, else ""."""
        return self._whole[1]

    @_OnDemand
    def _whole(self) -> tuple[WholeMessage | None, str]:
        if not self.captured.payload:
            return None, ""
        from dnstrail.dns.whole_message import read_whole_message  # noqa: PLC0415 - few processes need dnspython

        return read_whole_message(self.captured.payload)


_FLOW_ARGS = {
    "src": "source_text",
    "dst": "destination_text",
    "src_port": "source_port",
    "dst_port": "destination_port",
    "role": "role",
}
