"""Where events come from: the contract of a source, and the table of those that can be opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from dnstrail.errors import SourceUnavailable
from dnstrail_probe.captures import Captures
from dnstrail_probe.dnstap_socket import DnstapSocket
from dnstrail_probe.ebpf.source import EbpfSource
from dnstrail_probe.file_source import CaptureFile
from dnstrail_probe.packet_source import PacketSource
from dnstrail_probe.watched import Watched


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
SOURCES: dict[str, Callable[[Watched], Source]] = {
    "ebpf": EbpfSource,
    "ebpf:getaddrinfo": partial(EbpfSource, resolver=True),
    "packet": PacketSource,
    "demo": lambda watched: CaptureFile(str(_DEMO), watched),
    "dnstap": lambda _: DnstapSocket(),
}
_AT_A_PATH: dict[str, Callable[[str], Source]] = {"dnstap": DnstapSocket}  # "dnstap:PATH"
_DEFAULT = Watched()
_PREFERENCE = ("ebpf", "packet", "demo")


def open_source(capture: str, watched: Watched = _DEFAULT) -> Source:
    """Open what `--capture` names.

    Raises:
        CaptureError: a file that is none that can be read.
        SourceUnavailable: a live source that this host or user cannot have.
    """
    kind, _, path = capture.partition(":")
    if path and kind in _AT_A_PATH:
        return _AT_A_PATH[kind](path)
    return SOURCES[capture](watched) if capture in SOURCES else CaptureFile(capture, watched)


def is_file(capture: str) -> bool:
    """Whether `--capture` names a file, and nothing live."""
    return capture not in (AUTO, *SOURCES) and capture.partition(":")[0] not in _AT_A_PATH


def best_source(say: Callable[[str], None], watched: Watched = _DEFAULT) -> Source:
    """Open the best source that there is; `say` is told which, and why it is no better one."""
    *live, last = _PREFERENCE
    for kind in live:
        try:
            source = open_source(kind, watched)
        except SourceUnavailable as error:
            say(f"no capture by {error}")
        else:
            say(f"capturing by {kind}")
            return source
    say("nothing live can be captured: playing the bundled demo capture")
    return open_source(last, watched)
