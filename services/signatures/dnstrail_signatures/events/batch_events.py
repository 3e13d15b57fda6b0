"""The events of a batch as signatures receive them."""

from __future__ import annotations

from collections.abc import Iterable

from dnstrail.captured import Captured
from dnstrail.events import Event
from dnstrail.protocol.batches import Batch


def events_of(
    topic: str, batch: Batch, wanted: Iterable[tuple[int, Captured]], coverage: float | None, difference: int
) -> list[Event]:
    """Return the wanted events of a batch, each given with its place in it."""
    mark, batch_place = (batch.start, batch.turn), (topic, batch.sequence)
    return [
        Event(
            topic,
            captured,
            mark,
            batch.host,
            coverage=coverage,
            difference=difference,
            place=(*batch_place, place),
        )
        for place, captured in wanted
    ]
