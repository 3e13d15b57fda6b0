"""The status of the probes that feed the cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from dnstrail.protocol.batches import Turn

OK, WAITING, SILENT, ENDED, VANISHED = "ok", "waiting", "silent", "ended", "vanished"
SILENCE = 2.0  # seconds without a turn; a probe sends one at least every 0.1 s


class Heard(NamedTuple):
    """When the first and the last turn of a probe start arrived, on the monotonic clock."""

    first: float
    last: float


def silent_probes(probes: list[Turn], heard: Mapping[str, Heard], now: float) -> list[Turn]:
    """Return the starts that have not ended, and whose last turn is more than two seconds old."""
    return [probe for probe in probes if not probe.ended and now - heard[probe.start].last > SILENCE]


def status_of(probes: list[Turn], heard: Mapping[str, Heard], now: float) -> str:
    """Return the status of all probes.

    "waiting": no probe was heard yet. "ended": every probe sent its last turn. "silent": no probe is heard, and one
    has not ended. "vanished": a probe stopped without its last turn while another is heard. "ok": otherwise. A start
    that was followed by another one on its host no longer counts: its probe was restarted.
    """
    if not probes:
        return WAITING
    current = [probe for probe in probes if not _is_replaced(probe, probes, heard)]
    running = [probe for probe in current if not probe.ended]
    if not running:
        return ENDED
    silent = silent_probes(running, heard, now)
    if not silent:
        return OK
    return SILENT if len(silent) == len(running) else VANISHED


def _is_replaced(probe: Turn, probes: list[Turn], heard: Mapping[str, Heard]) -> bool:
    """Return whether a start was heard last before another one on its host was heard first."""
    host, last = (probe.host, probe.machine_id), heard[probe.start].last
    later = [other for other in probes if heard[other.start].first > last]
    return any(host) and any((other.host, other.machine_id) == host for other in later)
