"""The thread that answers lookups of the fleet, while the store writes."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from dnstrail.bus import Bus, ServedRequest
from dnstrail.process.clock import Clock
from dnstrail.protocol.lookup_thread import LookupThread
from dnstrail.protocol.lookups import BAD_REQUEST, OVERLOADED, RefusedRequestError, encode_error
from dnstrail_fleet.files import open_to_read
from dnstrail_fleet.lookups.answers import answer_lookup
from dnstrail_fleet.lookups.claims import ClaimStore
from dnstrail_fleet.lookups.contract import RowReader, StoreUnavailableError
from dnstrail_fleet.lookups.reading import StoreReader

#: seconds for one lookup -> its reply is `truncated`
BUDGET: Final = 0.3
#: seconds for one lookup that cannot end earlier -> `overloaded`
LONGEST: Final = 0.4  # a client waits half a second for each of its tries


def open_rows(path: Path) -> RowReader:
    """Open the file of a store.

    Raises:
        sqlite3.Error: It cannot be opened now.
    """
    return StoreReader(open_to_read(path))


class FleetServer(LookupThread[RowReader]):
    """Serves lookups. `counters` counts them by outcome."""

    def __init__(
        self,
        make_bus: Callable[[], Bus],
        address: str,
        path: Path,
        clock: Clock,
        open_reader: Callable[[Path], RowReader] = open_rows,
    ) -> None:
        """Bind the socket, and begin. Claims are kept beside the file of rows at `path`, which `open_reader` opens.

        Raises:
            BusError: The address cannot be bound.
        """
        self.counters: Counter[str] = Counter(answered=0, refused=0, unreadable=0)
        self._path = path
        self._open_reader = open_reader
        self._clock = clock
        super().__init__(make_bus, address, "fleet")

    @contextmanager
    def _open(self) -> Iterator[RowReader]:
        with closing(ClaimStore(self._path.parent)) as self._claims, closing(self._open_reader(self._path)) as reader:
            yield reader

    def _answer(self, served: ServedRequest, source: RowReader) -> None:
        if served.fault:
            self.counters["refused"] += 1
            served.reply(encode_error(RefusedRequestError(BAD_REQUEST, served.fault)))
            return
        begin = self._clock.monotonic()
        source.interrupt(partial(self._is_after, begin + LONGEST))
        try:
            is_over = partial(self._is_after, begin + BUDGET)
            reply = answer_lookup(served.body, source, self._clock.wall(), is_over, self._claims)
        except (sqlite3.Error, StoreUnavailableError) as error:
            self.counters["unreadable"] += 1
            served.reply(encode_error(RefusedRequestError(OVERLOADED, f"the store cannot be read now: {error}")))
            return
        self.counters["answered"] += 1
        served.reply(reply)

    def _is_after(self, moment: float) -> bool:
        return self._clock.monotonic() > moment
