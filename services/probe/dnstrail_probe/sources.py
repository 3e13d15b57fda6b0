"""Where events come from: the contract of a source, and the table of those that can be opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from dnstrail_probe.captures import Captures
from dnstrail_probe.file_source import DNS_PORTS, CaptureFile


class Source(Protocol):
    """What the probe reads events from."""

    name: str  # what it is, for people: "capture file x.pcap"
    live: bool  # False: a file; its clock is the stream's, and it may be made to wait
    counters: Counter[str]  # packets seen, and everything passed over, by reason

    def read(self, timeout: float) -> Captures | None:
        """The next events, each with its name, about a thousand at most; None at the end, and from then on.

        [] when none came, after `timeout` seconds at the latest.
        """
        ...

    def close(self) -> None:
        """Give back what the source holds; harmless when repeated."""
        ...


AUTO = "auto"
_DEMO = Path(__file__).with_name("demo.pcap")

# What `--capture` names -> how to open it; every other word is the path of a file ("./demo" is one, too).
SOURCES: dict[str, Callable[[frozenset[int]], Source]] = {
    "demo": lambda ports: CaptureFile(str(_DEMO), ports),
}


def open_source(capture: str, ports: frozenset[int] = DNS_PORTS) -> Source:
    """Open what `--capture` names; CaptureError says why a file is none that can be read."""
    if capture == AUTO:
        capture, _ = best_source()
    return SOURCES[capture](ports) if capture in SOURCES else CaptureFile(capture, ports)


def best_source() -> tuple[str, str]:
    """What `auto` means on this host: the name of the source, and why there is no better one."""
    return "demo", "this version captures from files alone"
