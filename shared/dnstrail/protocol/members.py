"""The members of a group of signature workers, as the cache keeps them (operation `join`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import islice
from typing import Annotated

import msgspec

from dnstrail.protocol.batches import Count

EXPIRY = 3.0  #: seconds of a membership without a renewal -> it expires: `members_expired`
RENEWAL = 1.0  # seconds between two renewals
REMEMBERED = 90.0  # seconds for which a worker remembers what was left behind of starts that it has not received
FORM = 2  # of requests and replies; a worker of an earlier version states none
MAX_SIGNATURES = 64  # whose faults one worker reports
#: signatures that do not run as their settings state, of one worker in `health` -> further ones are in its metrics and
#: its log
MAX_FAILED = 8
MAX_REASON = 256  #: characters of the reason why a signature does not run, in `health` -> the rest is cut off
MAX_NAME = 128  # characters of the name of a worker, a group or a start

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]
Last = Annotated[int, msgspec.Meta(ge=-1, lt=1 << 53)]
Reason = Annotated[str, msgspec.Meta(max_length=MAX_REASON)]


class Progress(msgspec.Struct, frozen=True, array_like=True):
    """The events of one start of a probe that a worker has handled.

    `first` is the turn from which it handles its share, None for a start that it has not received. `last` is the last
    turn of which nothing is left behind if it ends now, -1 before the first. `published` counts the events of the start
    until then, and `time` is the clock of the probe then, in ns.
    """

    start: Name
    first: Count | None
    last: Last
    published: Count = 0
    time: int = 0


class Faults(msgspec.Struct, frozen=True, omit_defaults=True):
    """The events that a signature failed to handle, took too long for, or did not receive while it was muted.

    `suppressed` counts its findings that the settings suppress, and `unavailable` the events that it gave up, since no
    cache answered a lookup of it in time. `evicted` counts entries that it gave up at the bounds of its state.
    """

    errors: Count = 0
    over_budget: Count = 0
    muted: Count = 0
    suppressed: Count = 0
    unavailable: Count = 0
    evicted: Count = 0


class Work(msgspec.Struct, frozen=True):
    """The events that a worker has handled, and those that another worker handles, too; the turns that were lost.

    `signatures` holds the faults by the name that findings show, of at most MAX_SIGNATURES signatures. `failed` holds
    the reasons why signatures do not run as their settings state, of at most MAX_FAILED signatures.
    """

    handled: Count = 0
    twice: Count = 0
    handover_lost: Count = 0
    signatures: Annotated[dict[Name, Faults], msgspec.Meta(max_length=MAX_SIGNATURES)] = {}
    failed: Annotated[dict[Name, Reason], msgspec.Meta(max_length=MAX_FAILED)] = {}


def failed(reasons: Mapping[str, str]) -> dict[str, str]:
    """Return why signatures do not run as their settings state, within the bounds of `Work.failed`."""
    return {name[:MAX_NAME] or "unnamed": text[:MAX_REASON] for name, text in islice(reasons.items(), MAX_FAILED)}


def faults(**counters: Counter[str]) -> dict[str, Faults]:
    """Return the faults of the signatures that have most of them; each counter counts one field by signature."""
    worst = sum(counters.values(), Counter[str]()).most_common(MAX_SIGNATURES)
    return {
        name[:MAX_NAME] or "unnamed": Faults(**{field: counted[name] for field, counted in counters.items()})
        for name, _ in worst
    }


class Member(msgspec.Struct, frozen=True, omit_defaults=True):
    """A living member of a group. It handles its share of each start of the request.

    `ahead` holds the starts of which it does so from a turn only that lies beyond the `last` one of the request; None:
    it has not received the start yet.
    """

    worker: str
    ahead: dict[str, Count | None] = {}


class Members(msgspec.Struct, frozen=True, omit_defaults=True):
    """The reply to `join`: the living members, and the epoch, which grows with each change of them.

    `behind` holds by start the last turn that those which have left since the epoch of the request had all handled.
    None: the cache is of an earlier version. `settled` is False while members may be missing, since the cache has just
    started. `cache` names the run of the cache.
    """

    epoch: int
    settled: bool
    members: tuple[Member, ...]
    cache: str = ""
    behind: dict[str, Last] | None = None
