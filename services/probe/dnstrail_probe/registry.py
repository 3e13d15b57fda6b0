"""Where events come from: the contract of a source, and the table of those that can be opened."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from dnstrail.errors import SourceUnavailable
from dnstrail_probe.ebpf.source import EbpfSource
from dnstrail_probe.options import CaptureOptions
from dnstrail_probe.source import Source
from dnstrail_probe.sources.af_packet import AfPacketSource
from dnstrail_probe.sources.capture_file import CaptureFileSource
from dnstrail_probe.sources.dnstap_socket import DnstapSocket

AUTO = "auto"
_DEMO = Path(__file__).with_name("sources") / "demo.pcap"

# What `--capture` names -> how to open it; every other word is the path of a file ("./demo" is one, too).
SOURCES: dict[str, Callable[[CaptureOptions], Source]] = {
    "ebpf": EbpfSource,
    "ebpf:getaddrinfo": partial(EbpfSource, getaddrinfo=True),
    "packet": AfPacketSource,
    "demo": lambda options: CaptureFileSource(str(_DEMO), options),
    "dnstap": lambda _: DnstapSocket(),
}
_AT_A_PATH: dict[str, Callable[[str], Source]] = {"dnstap": DnstapSocket}  # "dnstap:PATH"
_DEFAULT = CaptureOptions()
_PREFERENCE = ("ebpf", "packet", "demo")


def open_source(capture: str, options: CaptureOptions = _DEFAULT) -> Source:
    """Open what `--capture` names.

    Raises:
        CaptureError: a file that is none that can be read.
        SourceUnavailable: a live source that this host or user cannot have.
    """
    kind, _, path = capture.partition(":")
    if path and kind in _AT_A_PATH:
        return _AT_A_PATH[kind](path)
    return SOURCES[capture](options) if capture in SOURCES else CaptureFileSource(capture, options)


def is_file(capture: str) -> bool:
    """Whether `--capture` names a file, and nothing live."""
    return capture not in (AUTO, *SOURCES) and capture.partition(":")[0] not in _AT_A_PATH


def best_source(say: Callable[[str], None], options: CaptureOptions = _DEFAULT) -> Source:
    """Open the best source that there is; `say` is told which, and why it is no better one."""
    *live, last = _PREFERENCE
    for kind in live:
        try:
            source = open_source(kind, options)
        except SourceUnavailable as error:
            say(f"no capture by {error}")
        else:
            say(f"capturing by {kind}")
            return source
    say("nothing live can be captured: playing the bundled demo capture")
    return open_source(last, options)
