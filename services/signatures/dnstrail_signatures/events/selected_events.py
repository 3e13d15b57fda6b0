"""The events that signatures select: their topics on the bus, and their origins."""

from __future__ import annotations

from collections.abc import Iterable

from dnstrail.bus import Subscriber
from dnstrail.events import DERIVED, FACT_NAMES, NAMES, NET_PACKET_DNS, ORIGINS, PUBLISHED, SOURCE
from dnstrail.events import topics_of as topics_of_events
from dnstrail.protocol.batches import TURN
from dnstrail.signature import ANY, Signature


def topics_of(classes: Iterable[type[Signature]]) -> tuple[str, ...]:
    """Return the topics that these signatures need: those of the events that they select, and the ends of turns."""
    return (*topics_of_events(selected_names(classes)), TURN)


def subscribe_instead(subscriber: Subscriber, before: set[str], now: set[str]) -> bool:
    """Subscribe to other topics than before; return whether there are any."""
    for topic in now - before:
        subscriber.subscribe(topic)
    for topic in before - now:
        subscriber.unsubscribe(topic)
    return now != before


def selected_names(classes: Iterable[type[Signature]]) -> set[str]:
    """Return the names of the events that some of these signatures select.

    A wildcard selects no derived event, and no fact.
    """
    selectors = [selector for cls in classes for selector in cls.selected_events]
    selected = {selector.name for selector in selectors if selector.source in (*ANY, SOURCE)}
    wildcard = {*PUBLISHED}.difference(FACT_NAMES) if selected.intersection(ANY) else ()
    return selected.intersection(NAMES).union(wildcard)


def origins_of(classes: Iterable[type[Signature]], topic: str) -> frozenset[str]:
    """Return the origins of the events that some of these signatures select under a topic: "host", "container"."""
    names = {topic, *ANY, *(DERIVED if topic == NET_PACKET_DNS else ())}
    selectors = [selector for cls in classes for selector in cls.selected_events]
    chosen = {one.origin for one in selectors if one.source in (*ANY, SOURCE) and one.name in names}
    return frozenset(ORIGINS if chosen.intersection(ANY) else chosen)
