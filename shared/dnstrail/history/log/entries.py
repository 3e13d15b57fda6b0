"""The entries of the log: transactions and connections in words, from the bus or from the store."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import msgspec

from dnstrail.captured import LAST_TIME
from dnstrail.errors import BadMessage
from dnstrail.events import DNS_TRANSACTION, NET_CONNECTION, Event
from dnstrail.tracee.event_shape import event_args

_Entry = TypeVar("_Entry", bound="LogEntry")
Relation = tuple[str, str, str, int]  # owner, type, target, TTL in seconds


class LogEntry(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The part that all entries have: the time (ns since the epoch), the host, and the process; unknown: "" and 0.

    An entry is made by places: by names it would cost as much again as the rest of reading it.
    """

    event_name: ClassVar[str] = ""  # the event that the entry comes from
    timestamp: int
    host: str
    process_id: int
    process_name: str
    executable: str
    parent_process_id: int
    user_id: int
    container_id: str
    container_name: str
    container_image: str
    unit: str
    slice: str
    id: str
    src: str | None = None
    dst: str | None = None
    src_port: int | None = None
    dst_port: int | None = None
    transport: str | None = None
    socket: int | None = None
    container_labels: dict[str, str] = {}

    def arg(self, name: str) -> Any:
        """Return a value by its name in the event."""
        return getattr(self, name)


class LoggedQuestion(LogEntry, frozen=True, gc=False, omit_defaults=True):
    """A transaction at its end, with the arguments of `dns_transaction`; None where nothing is stated."""

    event_name: ClassVar[str] = DNS_TRANSACTION
    resolver: str | None = None
    resolver_port: int | None = None
    hop: str = ""
    asked_for: str | None = msgspec.field(default=None, name="for")
    name: str = ""
    type: str = ""
    outcome: str = ""
    rcode: int | None = None
    tries: int = 0
    waited: int | None = None
    relations: tuple[Relation, ...] = ()
    left_out: int | None = None
    admitted: bool | None = None
    matched: bool | None = None
    doubted: bool | None = None
    foreign: bool | None = None

    @property
    def begun(self) -> int:
        """The time of the first question, as far as one was seen."""
        return self.timestamp - (self.waited or 0)


class LoggedConnection(LogEntry, frozen=True, gc=False, omit_defaults=True):
    """A connection at its end, or at its failure, with the arguments of `net_connection`."""

    event_name: ClassVar[str] = NET_CONNECTION
    stage: str = ""
    name: str | None = None
    bound: str | None = None
    lasted: int | None = None
    connected: bool | None = None
    error: str | None = None
    why: str | None = None
    bytes_sent: int | None = None
    bytes_received: int | None = None

    @property
    def is_last(self) -> bool:
        """Whether no later stage of the connection is published: it has ended, or failed."""
        return self.stage == "end" or (self.stage == "result" and not self.connected)

    @property
    def begun(self) -> int:
        """The time at which it was opened."""
        return self.timestamp - (self.lasted or 0)


def read_entry(event: Event, kind: type[_Entry]) -> _Entry:
    """Return the entry of a fact that arrived.

    Raises:
        BadMessage: no cache of ours sends it.
    """
    if not 0 <= event.timestamp <= LAST_TIME:
        raise BadMessage("bad fact: its time is out of range")
    process = event.process
    values: dict[str, Any] = {
        "timestamp": event.timestamp,
        "host": event.host_name,
        "process_id": process.pid,
        "process_name": process.name,
        "executable": process.path,
        "parent_process_id": process.parent_pid,
        "user_id": process.user_id,
        "container_id": process.container_id,
        "container_name": process.container_name,
        "container_image": process.container_image,
        "unit": process.unit,
        "slice": process.slice,
        "container_labels": dict(process.container_labels),
        **{one["name"]: one["value"] for one in event_args(event, parse_arguments=True)},
    }
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise BadMessage(f"bad fact: {error}") from error
