"""The losses of a signature worker, which the cache adds to its stats: on the way to it, and by its signatures."""

from __future__ import annotations

from collections.abc import Mapping

from dnstrail.events import (
    FINDINGS_LOST,
    NAMES_UNAVAILABLE,
    REFUSED_EVENTS,
    SIGNATURE_ERRORS,
    SIGNATURE_MUTED,
    SIGNATURE_UNAVAILABLE,
)
from dnstrail_signatures.engine.engine import Engine


def all_losses(on_the_way: Mapping[str, int], engine: Engine, unnamed: int, undelivered: int) -> dict[str, int]:
    """Return the losses by event name or reason.

    `unnamed` connections have no names, since no cache answered. `undelivered` findings found no room at the receiver.
    """
    reasons = {
        SIGNATURE_ERRORS: engine.counters["errors"],
        SIGNATURE_MUTED: engine.budget.missed.total(),
        SIGNATURE_UNAVAILABLE: engine.unavailable.total(),
        NAMES_UNAVAILABLE: unnamed,
        FINDINGS_LOST: undelivered,
        REFUSED_EVENTS: engine.counters[REFUSED_EVENTS],
    }
    return {**on_the_way, **{reason: count for reason, count in reasons.items() if count}}
