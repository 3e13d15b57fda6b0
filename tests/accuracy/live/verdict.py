"""The verdict on one connection: which answers named it rightly, and why the others did not."""

from __future__ import annotations

from typing import Any

from join import Joined

SEEN, IN_SET, TRAIL, TRAIL_AT, DST_DNS = "seen", "in the set", "trail", "trail --at", "dst_dns[0]"
LAST = "last question"  # the baseline: whoever asked it
MEASURES = (SEEN, IN_SET, TRAIL, TRAIL_AT, DST_DNS, LAST)
Trails = list[dict[str, Any]]


def right(joined: Joined) -> set[str]:
    """Return the measures by which a connection is named rightly."""
    event, meant = joined.event, joined.meant
    if event is None:
        return set()
    by_time = sorted(event.trails, key=lambda trail: -trail["last_seen"])
    first = {TRAIL: _first(event.trails), TRAIL_AT: _first(event.trails_at), LAST: _first(by_time)}
    first[DST_DNS] = event.names[:1]
    known = {*event.names, *(trail["dns_root"] for trail in event.trails)}
    return {SEEN, *[IN_SET] * (meant in known), *(measure for measure, name in first.items() if name == [meant])}


def mechanism(joined: Joined, measure: str) -> str:
    """Return why the first trail is not the true name, as far as the trails show it."""
    event = joined.event
    if event is None:
        return "no event"
    trails = event.trails if measure == TRAIL else event.trails_at
    true, now = _of(joined.meant, trails), _of(joined.meant, event.trails)
    if true is not None:
        return _outranked(trails[0], true)
    if now is not None and now["first_seen"] * 1e9 > event.stamp:
        return "time: the first answer to the true name counts as later than the event"
    return "not in the set: no answer to the true name gave this address"


def _first(trails: Trails) -> list[str]:
    return [trail["dns_root"] for trail in trails[:1]]


def _of(name: str, trails: Trails) -> dict[str, Any] | None:
    return next((trail for trail in trails if trail["dns_root"] == name), None)


def _outranked(first: dict[str, Any], true: dict[str, Any]) -> str:
    if true["scope"] != first["scope"]:
        return f"scope: the true name was asked in the scope {true['scope']}, the first in the scope {first['scope']}"
    if true["state"] != first["state"]:
        return f"state: the true name is {true['state']}, the first {first['state']}"
    if first["last_seen"] > true["last_seen"]:
        return f"order: in the scope {first['scope']} the first was asked after the true name"
    return f"rank: in the scope {first['scope']} the first was asked before the true name"
