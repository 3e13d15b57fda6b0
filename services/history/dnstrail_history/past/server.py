"""The thread that answers lookups of a past time, while the worker stores facts."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

from dnstrail.bus import Bus, ServedRequest
from dnstrail.protocol.lookups import BAD_REQUEST, RefusedRequestError, encode_error
from dnstrail.protocol.past_lookups import HISTORY
from dnstrail.users import service_ids
from dnstrail_history.past.answers import answer_past
from dnstrail_history.past.segments import Segments

OUTCOMES: Final = ("answered", "refused", "unreadable")
_POLL: Final = 0.25  # seconds between two checks of the stop signal, and of files that were replaced
_LEARN: Final = 0.02  # seconds at once to read the times of segments, while a lookup may wait
_PATIENCE: Final = 5.0  # seconds for the lookup at hand


class PastServer:
    """Serves the cache at a socket of its own, with a bus of its own: a bus belongs to one thread.

    `counters` counts lookups `answered` and `refused`, and how often a segment was `unreadable`.
    """

    def __init__(self, make_bus: Callable[[], Bus], address: str, folder: Path) -> None:
        """Bind the socket, and begin.

        Raises:
            BusError: The address cannot be bound.
        """
        self.counters: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))
        self._make_bus = make_bus
        self._address = address
        self._folder = folder
        self._bound = threading.Event()
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="past", daemon=True)
        self._thread.start()
        self._bound.wait()
        self.check()

    def check(self) -> None:
        """Raise what ended the thread, if anything did.

        Raises:
            BusError: The address cannot be bound.
            Exception: A fault of dnstrail.
        """
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End the thread after the lookup at hand."""
        self._stop.set()
        self._thread.join(_PATIENCE)

    def _run(self) -> None:
        try:
            with closing(self._make_bus()) as bus, closing(Segments(self._folder)) as segments:
                server = bus.server(self._address)
                self._bound.set()
                while not self._stop.is_set():
                    bus.wait(server, timeout=_POLL)
                    while (served := server.receive()) is not None and not self._stop.is_set():
                        self._answer(served, segments)
                    segments.learn(partial(_is_past, time.monotonic() + _LEARN))
        except BaseException as error:  # noqa: BLE001 - the worker raises it
            self._error = error
        finally:
            self._bound.set()

    def _answer(self, served: ServedRequest, segments: Segments) -> None:
        if served.fault or served.user not in service_ids():
            self.counters["refused"] += 1
            fault = served.fault or "the history answers the cache alone: ask the cache"
            served.reply(encode_error(RefusedRequestError(BAD_REQUEST, fault), source=HISTORY))
            return
        reply = answer_past(served.body, segments)
        self.counters["answered"] += 1
        self.counters["unreadable"] = segments.unreadable
        served.reply(reply)


def _is_past(moment: float) -> bool:
    return time.monotonic() > moment
