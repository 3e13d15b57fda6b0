"""The thread that answers lookups of a past time, while the worker stores facts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

from dnstrail.bus import Bus, ServedRequest
from dnstrail.protocol.lookup_thread import LookupThread
from dnstrail.protocol.lookups import BAD_REQUEST, RefusedRequestError, encode_error
from dnstrail.protocol.past_lookups import HISTORY
from dnstrail.users import service_ids
from dnstrail_history.past.answers import answer_past
from dnstrail_history.past.segments import Segments

OUTCOMES: Final = ("answered", "refused", "unreadable")
_LEARN: Final = 0.02  # seconds at once to read the times of segments, while a lookup may wait


class PastServer(LookupThread[Segments]):
    """Serves the cache at a socket of its own.

    `counters` counts lookups `answered` and `refused`, and how often a segment was `unreadable`.
    """

    def __init__(self, make_bus: Callable[[], Bus], address: str, folder: Path) -> None:
        """Bind the socket, and begin.

        Raises:
            BusError: The address cannot be bound.
        """
        self.counters: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))
        self._folder = folder
        super().__init__(make_bus, address, "past")

    def _open(self) -> closing[Segments]:
        return closing(Segments(self._folder))

    def _answer(self, served: ServedRequest, source: Segments) -> None:
        if served.fault or served.user not in service_ids():
            self.counters["refused"] += 1
            fault = served.fault or "the history answers the cache alone: ask the cache"
            served.reply(encode_error(RefusedRequestError(BAD_REQUEST, fault), source=HISTORY))
            return
        reply = answer_past(served.body, source)
        self.counters["answered"] += 1
        self.counters["unreadable"] = source.unreadable
        served.reply(reply)

    def _look(self, source: Segments) -> None:
        source.learn(partial(_is_past, time.monotonic() + _LEARN))


def _is_past(moment: float) -> bool:
    return time.monotonic() > moment
