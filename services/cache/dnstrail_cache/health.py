"""The status of the probes that feed the cache."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dnstrail.protocol.batches import Turn

OK, WAITING, SILENT, ENDED, VANISHED = "ok", "waiting", "silent", "ended", "vanished"
SILENCE = 2.0  # seconds without a turn; a probe sends one at least every 0.1 s


def silent_probes(probes: Iterable[Turn], heard: Mapping[str, float], now: float) -> list[str]:
    """Return the starts that have not ended, and whose last turn is more than two seconds old."""
    return [probe.start for probe in probes if not probe.ended and now - heard[probe.start] > SILENCE]


def status_of(probes: list[Turn], heard: Mapping[str, float], now: float) -> str:
    """Return the status of all probes.

    "waiting": no probe was heard yet. "ended": every probe sent its last turn. "silent": no probe is heard, and one
    has not ended. "vanished": a probe stopped without its last turn while another is heard. "ok": otherwise.
    """
    if not probes:
        return WAITING
    running = [probe.start for probe in probes if not probe.ended]
    if not running:
        return ENDED
    silent = silent_probes(probes, heard, now)
    if not silent:
        return OK
    return SILENT if len(silent) == len(running) else VANISHED
