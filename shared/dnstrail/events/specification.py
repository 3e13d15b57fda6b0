"""The form in which an event is specified: once, in the file of its family. Every table of events follows from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from dnstrail.events.event import Event


class Field(NamedTuple):
    """An argument of an event. `type` is what `--output json` prints as its type: tracee's where tracee has it."""

    name: str
    type: str
    meaning: str
    unit: str = ""


class Stated(Protocol):
    """An event, or an entry of the log with the values of one."""

    @property
    def event_name(self) -> str:
        """The name of the event."""

    def arg(self, name: str) -> Any:
        """Return an argument, None if it is unknown."""


class Line(NamedTuple):
    """An event for a person: a text, a list that may be shortened, and what kind of news it is.

    Both may contain control bytes of strangers: whoever prints them escapes them.
    """

    text: str
    items: tuple[str, ...] = ()
    kind: Literal["query", "answer", "problem", "connection", "process"] = "connection"


class EventSpecification(NamedTuple):
    """An event. `fields` are tracee's in its order, then ours: the order of `--output json`.

    `words` states the meaning for the documentation. `effect` names what applies the event to the image (the table of
    `image/apply.py`); "" applies nothing. `line` makes the line of `--output table`; without it the line lists the
    arguments. `published`: it is a topic of the bus. Otherwise it travels as the packet that it is derived from.
    """

    family: str
    name: str
    id: int  # tracee's; else from 7000 up: tracee's signatures end at 6999, and its test events begin at 8000
    emitter: str
    words: str
    fields: tuple[Field, ...] = ()
    effect: str = ""
    line: Callable[[Event], Line] | None = None
    published: bool = True


# The fields that events of several families take from their packet.
FLOW = (
    Field("src", "const char*", "the address of the sender"),
    Field("dst", "const char*", "the address of the receiver"),
    Field("src_port", "u16", "the port of the sender"),
    Field("dst_port", "u16", "the port of the receiver"),
)
DIRECTION = Field("metadata", "trace.PacketMetadata", "the direction of a live packet: 1 ingress, 2 egress")
ORIGINAL = (
    Field("original_dst", "const char*", "the address of the receiver before NAT, if NAT changed it"),
    Field("original_dst_port", "u16", "the port of the receiver before NAT"),
)
