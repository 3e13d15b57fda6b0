"""The cache of a signature worker: lookups that wait until it is back, and the conflicts that it publishes."""

from __future__ import annotations

import time
from collections.abc import Callable, Container
from typing import Any

from dnstrail.bus import Bus, Subscriber
from dnstrail.client import DnsDataSource, LookupClient, Monotonic
from dnstrail.errors import DataNotFound, DnstrailError, Forgotten, Unavailable
from dnstrail.events import DNS_ANSWER_CONFLICT, FACT_NAMES
from dnstrail.protocol.batches import Batch, Mark
from dnstrail.protocol.facts import FactFeed

#: seconds for which lookups of signatures wait for a cache that is away, in one absence -> they fail at once until it
#: answers: `signature_unavailable`
PATIENCE = 30.0
_PAUSE = 0.1  # seconds between two requests to it
_REST = 1.0  # seconds between two requests to a cache for which they wait no more
CONFLICTS = 1.0  # seconds at the end of a source, for the conflicts and facts that the cache has published
CATCHING_UP = 60.0  # seconds before these for a cache that is behind the end of the source
_STEP = 0.5  # seconds between two requests in this time; an incomplete reply comes earlier if it is out of reach
_CONFLICTS, _FACTS = "conflicts_published", "facts_published"  # the counters of the cache
_LOOK = 0.01  # seconds between two looks for conflicts


class PatientDns(DnsDataSource):
    """The data source ("tracee", "dns") of a signature worker, whose events wait in their order.

    A lookup while the cache is away waits until it is back, for PATIENCE in one absence. After that lookups fail at
    once, until a request in between is answered. `pause` waits for some seconds, and returns True if the worker is to
    end: nothing waits any more then.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        bus: Bus | None = None,
        beat: Callable[[], None] = lambda: None,
        pause: Callable[[float], bool],
        timeout: float = 1.0,
        monotonic: Monotonic = time.monotonic,
    ) -> None:
        super().__init__(address, timeout=timeout, bus=bus, monotonic=monotonic, beat=beat)
        self._pause = pause
        self._monotonic = monotonic
        self._since: float | None = None  # when the cache went away
        self._failed: tuple[float, Unavailable] | None = None  # the last request for which nothing waited

    def _ask(self, op: str, **fields: Any) -> dict[str, Any]:
        if self._failed is not None and self._monotonic() < self._failed[0] + _REST:
            raise self._failed[1].with_traceback(None)  # else each raise would make it longer
        while True:
            began = self._monotonic()
            try:
                found = super()._ask(op, **fields)
            except Unavailable as error:
                self._wait(began, error)
            except DataNotFound as error:
                self._since = self._failed = None
                if not (error.complete and error.history):
                    raise Forgotten(error.key) from error
                raise
            else:
                self._since = self._failed = None
                if found.get("history") is False:
                    raise Forgotten(fields.get("keys"))
                return found

    def _wait(self, began: float, error: Unavailable) -> None:
        """Wait before the next request, or raise the error of the last one."""
        if self._since is None:
            self._since = began
        if self._monotonic() - self._since >= PATIENCE or self._pause(_PAUSE):
            self._failed = (self._monotonic(), error)
            raise error


class ConflictFeed:
    """The subscription of a worker to the conflicts of its cache; their sequence shows what was lost.

    `stops` states that the worker is to end: nothing waits any more then.
    """

    def __init__(
        self, bus: Bus, subscriber: Subscriber, client: LookupClient, stops: Callable[[], bool] = lambda: False
    ) -> None:
        self.subscriber = subscriber
        self._stops = stops
        self._bus = bus
        self._client = client
        self._next: int | None = None

    def missed(self, batch: Batch) -> int:
        """Note a batch; return how many were lost before it. A cache that has started anew counts from 0."""
        expected, self._next = self._next, batch.sequence + 1
        return 0 if expected is None else max(batch.sequence - expected, 0)

    def complete(
        self,
        mark: Mark,
        take: Callable[[], None],
        chosen: Container[str],
        facts: FactFeed | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take all conflicts, and all facts, up to a mark, for a bounded time: `take` handles those that have arrived.

        Only the topics of `chosen` are awaited. A cache that is behind the mark may catch up first.
        """
        try:
            published = self._published(mark, take, monotonic)
        except DnstrailError:
            return
        deadline = monotonic() + CONFLICTS
        conflicts = published.get(_CONFLICTS, 0) if DNS_ANSWER_CONFLICT in chosen else 0
        ends = [self.subscriber, *([] if facts is None else [facts.subscriber])]
        learned = published.get(_FACTS, 0) if any(name in chosen for name in FACT_NAMES) else 0
        take()
        while monotonic() < deadline and (
            (self._next or 0) < conflicts or (facts is not None and facts.published < learned)
        ):
            self._bus.wait(*ends, timeout=_LOOK)
            take()

    def _published(self, mark: Mark, take: Callable[[], None], monotonic: Callable[[], float]) -> dict[str, int]:
        """Return the counters of the cache at a mark, or those after CATCHING_UP, or if the mark is out of its reach.

        Raises:
            DnstrailError: no cache answers.
        """
        end = monotonic() + CATCHING_UP
        while True:
            began = monotonic()
            reply = self._client.ask_reply("stats", after=[mark], patience=_STEP)
            take()
            if reply.get("complete", True) or self._stops() or not began + _STEP <= monotonic() < end:
                published: dict[str, int] = reply["data"]["cache"]
                return published
