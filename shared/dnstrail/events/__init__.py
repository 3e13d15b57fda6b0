"""The events: each is specified once, in the file of its family, and all tables of events are derived here.

A new event is a constant and an entry in its family; the constant is exported from here, too. `Event` is what
signatures read. It is loaded on first use, since a probe needs no parser of whole messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from dnstrail.captured import ASKER_SEEN as ASKER_SEEN
from dnstrail.captured import GETADDRINFO as GETADDRINFO
from dnstrail.events.connections import *  # noqa: F403 - a constant stands in its family alone
from dnstrail.events.connections import CONNECTIONS
from dnstrail.events.facts import *  # noqa: F403 - as above
from dnstrail.events.facts import FACTS
from dnstrail.events.packets import *  # noqa: F403 - as above
from dnstrail.events.packets import NET_PACKET_DNS, PACKETS
from dnstrail.events.processes import *  # noqa: F403 - as above
from dnstrail.events.processes import PROCESSES
from dnstrail.events.specification import EventSpecification

if TYPE_CHECKING:
    from dnstrail.events.event import ORIGINS as ORIGINS
    from dnstrail.events.event import SOURCE as SOURCE
    from dnstrail.events.event import Event as Event
    from dnstrail.events.event import Executable as Executable
    from dnstrail.events.event import Question as Question

SPECIFICATIONS: Final[tuple[EventSpecification, ...]] = (*PACKETS, *CONNECTIONS, *PROCESSES, *FACTS)
EVENTS: Final[Mapping[str, EventSpecification]] = MappingProxyType({one.name: one for one in SPECIFICATIONS})
PUBLISHED: Final = tuple(one.name for one in SPECIFICATIONS if one.published)  # the topics of the bus
FACT_NAMES: Final = tuple(one.name for one in FACTS)  # the topics that the cache publishes at an address of its own
DERIVED: Final = tuple(one.name for one in SPECIFICATIONS if not one.published)  # from net_packet_dns, where wanted
NAMES: Final = (*PUBLISHED, *DERIVED)
EFFECTS: Final[Mapping[str, str]] = MappingProxyType({one.name: one.effect for one in SPECIFICATIONS if one.effect})

SIGNATURE_ERRORS = "signature_errors"  # events that a signature failed to handle, among the losses of a worker
FINDINGS_LOST = "findings_lost"  # findings that no receiver or no output took, among the losses of a worker
SIGNATURE_MUTED = "signature_muted"  # events that a muted signature did not receive, among the losses of a worker
SIGNATURE_UNAVAILABLE = "signature_unavailable"  # events that a signature gave up for want of a lookup, among them
NAMES_UNAVAILABLE = "names_unavailable"  # connection events whose names no cache reported in time, among them
FACTS_UNWRITTEN = "facts_unwritten"  # facts that no disk of the history took, among them
REFUSED_EVENTS = "refused_events"  # events of probes that a worker does not follow, among them
LOSS_REASONS = (
    SIGNATURE_ERRORS,
    FINDINGS_LOST,
    SIGNATURE_MUTED,
    SIGNATURE_UNAVAILABLE,
    NAMES_UNAVAILABLE,
    FACTS_UNWRITTEN,
    REFUSED_EVENTS,
)
_OF_EVENT = ("ORIGINS", "SOURCE", "Event", "Executable", "Question")


def topics_of(names: Iterable[str]) -> tuple[str, ...]:
    """Return the topics that carry these events on the bus: a derived event travels as its packet."""
    wanted = {*names}
    if wanted.intersection(DERIVED):
        wanted.add(NET_PACKET_DNS)
    return tuple(name for name in PUBLISHED if name in wanted)


def __getattr__(name: str) -> object:
    """Import what signatures read on first use.

    Raises:
        AttributeError: The name is no name of this package.
    """
    if name not in _OF_EVENT:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module("dnstrail.events.event"), name)
    return value
