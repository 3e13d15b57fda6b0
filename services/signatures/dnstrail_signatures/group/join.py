"""How a worker joins its group: before it subscribes, so that no event comes before the others know of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from hashlib import blake2b

from dnstrail.bus import Bus
from dnstrail.client import LookupClient
from dnstrail.protocol.losses import worker_name
from dnstrail.protocol.members import MAX_NAME, Work
from dnstrail.signature import Signature
from dnstrail_signatures.group.membership import Membership

GROUP, ALONE = "default", "none"
Rejoin = Callable[[Iterable[type[Signature]]], Membership]  # `join` for other signatures
_DIGEST = 4  # bytes
_ACTORS = "clients by host"  # how actors are told apart
#: characters of the name of a group (`--group`) -> a longer one is refused
LONGEST = MAX_NAME - len(" ") - 2 * _DIGEST  # its name gets a digest of its signatures
_LOOK = 0.005  # seconds between two looks for the reply of the cache


def join(
    bus: Bus,
    cache: str,
    group: str,
    stop: threading.Event,
    beat: Callable[[], None],
    classes: Iterable[type[Signature]],
) -> Membership:
    """Return the membership of a worker, once the cache has replied or the worker has to go on alone."""
    client = LookupClient(cache, bus=bus, beat=beat)
    membership = Membership(client, group_name(group, classes), worker_name("signatures"), time.monotonic())
    while membership.waits and not stop.is_set():
        beat()
        membership.step(time.monotonic(), Work)
        bus.wait(timeout=_LOOK)
    return membership


def group_name(group: str, classes: Iterable[type[Signature]]) -> str:
    """Return the name of a group with its signatures: workers share events only if they run the same signatures.

    Workers of an earlier version told actors apart in another way. They are a group of their own.
    """
    described = sorted(f"{cls.metadata.id} {cls.metadata.version} {cls.metadata.event_name}" for cls in classes)
    return f"{group} {blake2b(chr(0).join([_ACTORS, *described]).encode(), digest_size=_DIGEST).hexdigest()}"
