"""The status of the probes that feed the cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from dnstrail.protocol.batches import Turn

OK, WAITING, SILENT, ENDED, VANISHED, BEHIND = "ok", "waiting", "silent", "ended", "vanished", "behind"
STATUSES = {
    OK: "every probe that has not ended is heard",
    WAITING: "no probe was heard yet",
    SILENT: "no probe that has not ended was heard for 3.5 seconds",
    ENDED: "every probe sent its last turn",
    VANISHED: "a probe stopped without its last turn while another is heard",
    BEHIND: "the probes are heard, and the cache is more than a second behind one of them",
}
LATE = 1.0  #: seconds by which the cache may be behind its probes -> `health` reports `behind`
#: seconds of the silence of the probes -> `health` reports `silent`
SILENCE = 3.5  # a probe sends a turn at least every second


class TurnTimes(NamedTuple):
    """The arrival of the first and of the last turn of a probe start, on the monotonic clock."""

    first: float
    last: float


def silent_probes(probes: list[Turn], times: Mapping[str, TurnTimes], now: float) -> list[Turn]:
    """Return the starts that have not ended, and whose last turn is older than SILENCE."""
    return [probe for probe in probes if not probe.ended and now - times[probe.start].last > SILENCE]


def status_of(probes: list[Turn], times: Mapping[str, TurnTimes], now: float, lag: float = 0.0) -> str:
    """Return the status of all probes, one of STATUSES; the cache is `lag` seconds behind them.

    A start that another one on its host followed does not count: its probe was restarted.
    """
    if not probes:
        return WAITING
    current = [probe for probe in probes if not _is_replaced(probe, probes, times)]
    running = [probe for probe in current if not probe.ended]
    if not running:
        return ENDED
    silent = silent_probes(running, times, now)
    if not silent:
        return BEHIND if lag > LATE else OK
    return SILENT if len(silent) == len(running) else VANISHED


def _is_replaced(probe: Turn, probes: list[Turn], times: Mapping[str, TurnTimes]) -> bool:
    """Return whether the last turn of a start arrived before the first one of another start on its host."""
    host, last = (probe.host, probe.machine_id), times[probe.start].last
    later = [other for other in probes if times[other.start].first > last]
    return any(host) and any((other.host, other.machine_id) == host for other in later)
