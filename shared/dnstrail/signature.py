"""The signature API: detection code selects events, asks data sources, reports findings. Names are tracee's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import structlog

from dnstrail.datasource import DataSource, DataSources
from dnstrail.dns.header import QR, Header
from dnstrail.events import ANSWERED, SOURCE, Event
from dnstrail.protocol import PROBES

ANY = ("*", "")
MESSAGES = QUERY, RESPONSE = ("query", "response")  # the DNS message of an event, as event selectors name it
NO_DATA, NXDOMAIN, FAILED, REFUSED = "no_data", "nxdomain", "failed", "refused"
_OF_RCODE = {0: NO_DATA, 3: NXDOMAIN, 5: REFUSED}
RCODE = 0x000F


@dataclass(frozen=True, slots=True)
class SignatureMetadata:
    """The description of a signature. Its findings appear as events named `event_name`.

    `id` identifies the signature in logs and counters. tracee's built-in signatures use the properties "Severity"
    (0 to 3), "Category", "Technique", "MITRE ATT&CK", "id" and "external_id". `event_id` is the id of the events;
    without one the worker numbers them from 6100 up. Ids below 6100 are those of signatures that ship with dnstrail.
    """

    id: str
    version: str
    name: str
    event_name: str
    description: str = ""
    tags: tuple[str, ...] = ()
    properties: dict[str, Any] = field(default_factory=dict)
    event_id: int = 0


@dataclass(frozen=True, slots=True)
class EventSelector:
    """The events that a signature receives: those that match all fields. "*" and "" match anything.

    The source of all events of dnstrail is "tracee"; their origin is "container" or "host". The events that are derived
    from DNS packets (net_packet_dns_request, net_packet_dns_response), and facts (dns_transaction, net_connection),
    arise only where a selector names them.

    The other fields select by the DNS message of an event; without a message they match nothing. `message` is "query"
    or "response". `types` are numbers of types: the only question of the message has one of them. `outcomes` are those
    of a response, by its header: "answered" if it contains answers, whatever its code; else "no_data"; and "nxdomain",
    "refused" or "failed" by its code.

    Raises:
        ValueError: a message or an outcome that does not exist, or types that are no tuple of numbers.
    """

    source: str = SOURCE
    name: str = "*"
    origin: str = "*"
    message: str = "*"
    types: tuple[int, ...] = ()
    outcomes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what would match nothing."""
        if self.message not in (*ANY, *MESSAGES):
            raise ValueError(f"message={self.message!r} is neither {QUERY!r} nor {RESPONSE!r}")
        if unknown := {*self.outcomes}.difference((ANSWERED, FAILED, *_OF_RCODE.values())):
            raise ValueError(f"{min(unknown)!r} is no outcome of a response")
        if not isinstance(self.types, tuple) or not all(isinstance(number, int) for number in self.types):
            raise ValueError(f"types={self.types!r} is no tuple of numbers, such as (16,)")

    @property
    def by_message(self) -> bool:
        """Whether the DNS message of an event matters."""
        return self.message not in ANY or bool(self.types or self.outcomes)

    def selects(self, event: Event) -> bool:
        """Return True if the event matches."""
        if not self.selects_kind(event.event_name, event.origin):
            return False
        return not self.by_message or (event.header is not None and self._selects_message(event.header))

    def selects_kind(self, name: str, origin: str) -> bool:
        """Return True if an event of this name and origin matches, whatever its DNS message."""
        return self.source in (*ANY, SOURCE) and self.name in (*ANY, name) and self.origin in (*ANY, origin)

    def _selects_message(self, header: Header) -> bool:
        response = header.flags & QR != 0
        return (
            self.message in (*ANY, RESPONSE if response else QUERY)
            and (not self.types or (header.question != b"" and header.asked.type in self.types))
            and (not self.outcomes or (response and not _outcomes(header).isdisjoint(self.outcomes)))
        )


def _outcomes(header: Header) -> set[str]:
    of_code = _OF_RCODE.get(header.flags & RCODE, FAILED)
    if not header.answer_count:
        return {of_code}
    return {ANSWERED} if of_code == NO_DATA else {ANSWERED, of_code}


@dataclass(frozen=True, slots=True)
class Finding:
    """A report of a signature: its data, and the event that led to it.

    `id` follows from the signature and the event: two workers that handle one event report findings with one id.
    """

    data: dict[str, Any]
    event: Event
    metadata: SignatureMetadata
    id: str = ""


@dataclass(frozen=True, slots=True)
class Signal:
    """A message to all signatures that is no event. "source_complete" reports that a source has ended."""

    name: str
    source: str = SOURCE


@dataclass(frozen=True, slots=True)
class SignatureContext:
    """The connection of a signature to its worker: where findings go, which data sources exist, its own logger.

    `probes` is the number of runs of probes that the worker follows. `state` is the folder in which a signature keeps
    what it needs after a restart; None: the worker has none. `facts` states that the worker receives facts.
    """

    callback: Callable[[Finding], None]
    data_sources: DataSources
    logger: structlog.typing.FilteringBoundLogger
    probes: int = PROBES
    state: Path | None = None
    facts: bool = True

    def get_data_source(self, namespace: str, id_: str) -> DataSource | None:
        """Return a data source, or None if this run does not have it."""
        return self.data_sources.get(namespace, id_)


class Signature:
    """The base class of all signatures. Set `metadata` and `selected_events`, and override what is needed.

    A signature with settings sets `settings` to their defaults: a msgspec Struct that is frozen. Before `init`, the
    worker gives the instance the settings that the settings file states under its event name
    (docs/reference/settings.md). If they have a field `enabled` that is False, the signature runs only where a user
    names it or the file enables it.

    A method may raise: the worker counts and logs the error, and goes on with the next event. `fault` states why the
    signature runs otherwise than its settings state, for instance with an earlier list: the worker is not ready then.
    """

    metadata: ClassVar[SignatureMetadata]
    selected_events: ClassVar[tuple[EventSelector, ...]] = ()
    settings: ClassVar[msgspec.Struct | None] = None
    fault: str = ""

    def init(self, ctx: SignatureContext) -> None:
        """Keep what is needed of the context. A signature that raises here does not start.

        The worker then ends, if a user named the signature or the error is a SettingsError. Otherwise it runs without
        the signature, and is not ready. Where a data source is missing, raise DataSourceMissing.
        """
        self.ctx = ctx

    def on_event(self, event: Event) -> None:
        """Handle one selected event; call `report` if it matters."""

    def on_signal(self, signal: Signal) -> None:
        """Handle a signal."""

    def on_time(self, start: str, now: int) -> None:
        """Note that the run `start` of a probe has come to the time `now` (ns, on its clock).

        All events before it have come. This is called after each turn, and while a probe is silent. At the end of a
        run, `now` is the last time of all.
        """

    def close(self) -> None:
        """Release what `init` acquired."""

    def report(self, event: Event, **data: Any) -> None:
        """Report a finding to which an event led."""
        self.ctx.callback(Finding(data, event, self.metadata))
