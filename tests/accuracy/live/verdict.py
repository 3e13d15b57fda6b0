"""The verdict on one connection: which answers named it rightly, and why the others did not."""

from __future__ import annotations

from typing import Any

from join import Joined
from observer import Trails

SEEN, IN_SET, TRAIL, DST_DNS = "seen", "in the set", "trail", "dst_dns[0]"
BY_TIME, GOT = "trail, by time", "get, by time"
LAST = "last question"  # the baseline: whoever asked it
MEASURES = (SEEN, IN_SET, TRAIL, DST_DNS, BY_TIME, GOT, LAST)
_ALL = 100  # trails of a reply


def right(joined: Joined) -> set[str]:
    """Return the measures by which a connection is named rightly."""
    event, meant = joined.event, joined.meant
    if event is None:
        return set()
    last = max(event.trails, key=lambda trail: trail["last_seen"], default=None)
    holds = {
        SEEN: True,
        IN_SET: meant in event.names or _of(meant, event.trails) is not None,
        TRAIL: _of(meant, event.trails[:1]) is not None,
        DST_DNS: event.names[:1] == [meant],
        BY_TIME: event.by_time == meant,
        GOT: event.got == meant,
        LAST: last is not None and last["dns_root"] == meant,
    }
    return {measure for measure, true in holds.items() if true}


def mechanism(joined: Joined) -> str:
    """Return why the first trail is not the true name, as far as the trails show it."""
    event = joined.event
    if event is None:
        return "no event"
    true = _of(joined.meant, event.trails)
    if true is not None:
        return _outranked(event.trails[0], true)
    if joined.meant not in event.names:
        return "not in the set: no answer to the true name gave this address"
    if len(event.trails) >= _ALL:
        return f"beyond: {_ALL} trails come first, which is all that a reply contains"
    return "time: by the clock of the cache, the answer to the true name came after the event"


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
