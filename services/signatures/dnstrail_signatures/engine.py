"""The engine: gives each event to the signatures that select it, and takes their findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

import msgspec
import structlog

from dnstrail.captured import Captured
from dnstrail.datasource import DataSources
from dnstrail.events import Event
from dnstrail.signature import Finding, Signal, Signature, SignatureContext

MAX_DEPTH = 5  # findings are events, and may lead to findings


class Engine:
    """The signatures of one worker. One that raises is counted and logged; its neighbours do not notice."""

    def __init__(
        self, classes: Iterable[type[Signature]], data_sources: DataSources, sink: Callable[[Finding], None]
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.signatures: list[Signature] = []
        self._sink = sink
        self._depth = 0
        self._log = structlog.get_logger()
        for cls in classes:
            self._start(cls, data_sources)

    @property
    def event_names(self) -> set[str]:
        """The names of all events that some signature selects."""
        return {selector.name for signature in self.signatures for selector in signature.selected_events}

    def on_event(self, event: Event) -> None:
        """Give an event to those that select it."""
        self.counters["events"] += 1
        for signature in self.signatures:
            if any(selector.selects(event) for selector in signature.selected_events):
                self._guard(signature, lambda signature=signature: signature.on_event(event))  # type: ignore[misc]

    def on_signal(self, signal: Signal) -> None:
        """Give a signal to all."""
        for signature in self.signatures:
            self._guard(signature, lambda signature=signature: signature.on_signal(signal))  # type: ignore[misc]

    def close(self) -> None:
        """End all signatures."""
        for signature in self.signatures:
            self._guard(signature, signature.close)

    def _start(self, cls: type[Signature], data_sources: DataSources) -> None:
        try:
            signature = cls()
            log = self._log.bind(signature=cls.metadata.id)
            signature.init(SignatureContext(self._found, data_sources, log))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - one bad signature must not stop the others
            self.counters["not_started"] += 1
            self._log.error("signature_not_started", signature=cls.__name__, error=str(error))
            return
        self.signatures.append(signature)

    def _guard(self, signature: Signature, call: Callable[[], None]) -> None:
        try:
            call()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - as above
            self.counters["errors"] += 1
            name = signature.metadata.id
            self._log.error("signature_failed", signature=name, error=f"{type(error).__name__}: {error}")

    def _found(self, finding: Finding) -> None:
        # What travels as JSON is checked here, where a mistake is the signature's own.
        data = msgspec.json.decode(msgspec.json.encode(finding.data, enc_hook=repr))
        finding = replace(finding, data=data)
        self.counters["findings"] += 1
        self._sink(finding)
        if self._depth >= MAX_DEPTH:
            self.counters["too_deep"] += 1
            return
        cause = finding.event
        captured = Captured(cause.timestamp, process=cause.captured.process)
        self._depth += 1
        try:
            event = Event(
                finding.metadata.event_name, captured, cause.mark, cause.host_name, finding.data, cause.coverage
            )
            self.on_event(event)
        finally:
            self._depth -= 1
