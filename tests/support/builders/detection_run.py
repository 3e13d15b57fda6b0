"""Captures through the built-in signatures, without a bus: each event is applied to an image, then to an engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dnstrail.capture_options import CaptureOptions
from dnstrail.captured import Captured
from dnstrail.datasource import DataSources, DnsIdentity
from dnstrail.errors import DataNotFound
from dnstrail.events import DST_DNS, EFFECTS, NET_TCP_CONNECT, NET_UDP_CONNECT, Event
from dnstrail.image import Bounds, Image
from dnstrail.image.apply import apply_event
from dnstrail.signature import Finding, Signature
from dnstrail_probe.sources.capture_file import CaptureFileSource
from dnstrail_signatures.engine.engine import Engine

_SECOND = 1_000_000_000
_CONNECTS = (NET_TCP_CONNECT, NET_UDP_CONNECT)
_PAUSE = 300 * _SECOND  # a longer gap between two packets does not count as watched time
_OTHER_PORT = "pktvisor__dns_ipv"  # captures with DNS on port 53000


class ImageSource(DnsIdentity):
    """The data source ("tracee", "dns") over an image, as of the last event."""

    def __init__(self) -> None:
        self.image = Image(Bounds(), "accept")
        self.now = 0

    def get(self, key: str) -> dict[str, Any]:
        """Return the result of a lookup.

        Raises:
            DataNotFound: The image does not hold the key.
        """
        found = self.image.get(key, at=self.now)
        if found is None:
            raise DataNotFound(key)
        return {"ip_addresses": found.ip_addresses, "dns_queries": found.dns_queries, "dns_root": found.dns_root}


@dataclass
class DetectionRun:
    """The findings of one capture, and the time that it watched (s)."""

    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0
    errors: int = 0

    def names(self) -> list[str]:
        """Return the events of the findings, in order."""
        return [finding.metadata.event_name for finding in self.findings]


def captured_events(path: Path) -> Iterator[tuple[str, Captured]]:
    """Yield the events of a capture file, with server names."""
    ports = frozenset({53000 if path.name.startswith(_OTHER_PORT) else 53})
    source = CaptureFileSource(str(path), CaptureOptions(ports=ports, server_names=True))
    while (read := source.read(1.0)) is not None:
        yield from read
    source.close()


def detect(events: Iterable[tuple[str, Captured]], classes: Iterable[type[Signature]]) -> DetectionRun:
    """Pass events to signatures, as a probe, a cache and a worker would."""
    run, source, last = DetectionRun(), ImageSource(), None
    engine = Engine(classes, DataSources(source), run.findings.append)
    for place, (topic, captured) in enumerate(events):
        at = captured.timestamp
        run.seconds += min(max(at - last, 0), _PAUSE) / _SECOND if last is not None else 0.0
        last = source.now = at
        apply_event(source.image, EFFECTS.get(topic, ""), captured, live=False)
        event = Event(topic, captured, ("file", 0), coverage=1.0, place=(place,))
        engine.on_event(_named(event, source) if topic in _CONNECTS else event)
    engine.close()
    run.errors = engine.counters["errors"] + engine.counters["not_started"]
    return run


def _named(event: Event, source: ImageSource) -> Event:
    try:
        names = list(source.get(event.arg("dst"))["dns_queries"])
    except DataNotFound:
        names = []
    return replace(event, args={DST_DNS: names})
