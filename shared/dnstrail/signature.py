"""The signature API: detection code selects events, asks data sources, reports findings; names as in tracee."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import structlog

from dnstrail.datasource import DataSource, DataSources
from dnstrail.events import Event

_ANY = ("*", "")


@dataclass(frozen=True, slots=True)
class SignatureMetadata:
    """What a signature is; `event_name` names the event as which its findings appear."""

    id: str
    version: str
    name: str
    event_name: str
    description: str = ""
    tags: tuple[str, ...] = ()
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EventSelector:
    """Which events a signature is given: "*" or "" is any name; origin is container, host, or any as well."""

    source: str = "tracee"
    name: str = "*"
    origin: str = "*"

    def selects(self, event: Event) -> bool:
        """Whether an event is meant."""
        return self.name in (*_ANY, event.event_name) and self.origin in (*_ANY, event.origin)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a signature reports: its data, and the event that led to it."""

    data: dict[str, Any]
    event: Event
    metadata: SignatureMetadata


@dataclass(frozen=True, slots=True)
class Signal:
    """Something that is no event; "source_complete" says that a source has ended."""

    name: str
    source: str = "tracee"


@dataclass(frozen=True, slots=True)
class SignatureContext:
    """What a signature is given at its start."""

    callback: Callable[[Finding], None]
    data_sources: DataSources
    logger: structlog.typing.FilteringBoundLogger

    def get_data_source(self, namespace: str, id_: str) -> DataSource | None:
        """The data source of a name, or None where this run has none."""
        return self.data_sources.get(namespace, id_)


class Signature:
    """The base of all signatures: override what is needed. One that raises is counted and goes on."""

    metadata: ClassVar[SignatureMetadata]
    selected_events: ClassVar[tuple[EventSelector, ...]] = ()

    def init(self, ctx: SignatureContext) -> None:
        """Keep what is needed of the context. Raising here leaves the signature out of the run."""
        self.ctx = ctx

    def on_event(self, event: Event) -> None:
        """Look at one selected event; call `report` when it matters."""

    def on_signal(self, signal: Signal) -> None:
        """Look at a signal."""

    def close(self) -> None:
        """Let go of what `init` took."""

    def report(self, event: Event, **data: Any) -> None:
        """Report a finding that an event led to."""
        self.ctx.callback(Finding(data, event, self.metadata))
