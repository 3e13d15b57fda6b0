"""The bundled demo capture as a source."""

from __future__ import annotations

from pathlib import Path

from dnstrail_probe.source import Opening
from dnstrail_probe.sources.capture_file import CaptureFileSource

_DEMO = Path(__file__).with_name("demo.pcap")


def open_source(opening: Opening) -> CaptureFileSource:
    """Open the demo capture."""
    return CaptureFileSource(str(_DEMO), opening.options)
