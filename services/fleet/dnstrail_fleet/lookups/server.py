"""The thread that answers lookups of the fleet, while the store writes."""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from dnstrail.bus import Bus, ServedRequest
from dnstrail.process.clock import Clock
from dnstrail.protocol.lookups import BAD_REQUEST, OVERLOADED, RefusedRequestError, encode_error
from dnstrail_fleet.files import open_to_read
from dnstrail_fleet.lookups.answers import answer_lookup
from dnstrail_fleet.lookups.reading import StoreReader

_POLL: Final = 0.25  # seconds between two checks of the stop signal
#: seconds for one lookup -> its reply is `truncated`
BUDGET: Final = 0.3
#: seconds for one lookup that cannot end earlier -> `overloaded`
LONGEST: Final = 0.4  # a client waits half a second for each of its tries
_PATIENCE: Final = 5.0  # seconds for the lookup at hand


class FleetServer:
    """Serves lookups with a bus of its own: a bus belongs to one thread. `counters` counts them by outcome."""

    def __init__(self, make_bus: Callable[[], Bus], address: str, path: Path, clock: Clock) -> None:
        """Bind the socket, and begin.

        Raises:
            BusError: The address cannot be bound.
        """
        self.counters: Counter[str] = Counter(answered=0, refused=0, unreadable=0)
        self._make_bus = make_bus
        self._address = address
        self._path = path
        self._clock = clock
        self._bound = threading.Event()
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="fleet", daemon=True)
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
            with closing(self._make_bus()) as bus, closing(StoreReader(open_to_read(self._path))) as reader:
                server = bus.server(self._address)
                self._bound.set()
                while not self._stop.is_set():
                    bus.wait(server, timeout=_POLL)
                    while (served := server.receive()) is not None and not self._stop.is_set():
                        self._answer(served, reader)
        except BaseException as error:  # noqa: BLE001 - the worker raises it
            self._error = error
        finally:
            self._bound.set()

    def _answer(self, served: ServedRequest, reader: StoreReader) -> None:
        if served.fault:
            self.counters["refused"] += 1
            served.reply(encode_error(RefusedRequestError(BAD_REQUEST, served.fault)))
            return
        begin = self._clock.monotonic()
        reader.interrupt(lambda: self._clock.monotonic() > begin + LONGEST)
        try:
            reply = answer_lookup(
                served.body, reader, self._clock.wall(), lambda: self._clock.monotonic() > begin + BUDGET
            )
        except sqlite3.Error as error:
            self.counters["unreadable"] += 1
            served.reply(encode_error(RefusedRequestError(OVERLOADED, f"the store cannot be read now: {error}")))
            return
        self.counters["answered"] += 1
        served.reply(reply)
