"""The live feed: messages that every reader receives in their order, as Server-Sent Events (HTML, section 9.2)."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Collection
from itertools import islice
from typing import Final, NamedTuple

from dnstrail.process.terminal import json_line
from dnstrail.protocol.lookups import OVERLOADED
from dnstrail_web.errors import ApiError

QUESTIONS: Final = "questions"
CONNECTIONS: Final = "connections"
FINDINGS: Final = "findings"
NOTICE: Final = "notice"
KINDS: Final = (QUESTIONS, CONNECTIONS, FINDINGS)
#: bytes of the messages that wait for readers -> the oldest is removed, and a reader who lacks it loses its feed
MOST_BYTES: Final = 16 << 20
#: readers of the feed at the same time -> `overloaded`
MOST_READERS: Final = 32
RESUME: Final = 90.0  # seconds after the last reader for which messages are still made
_BEAT: Final = 15.0  # seconds between two signs of life of an idle feed
_AT_ONCE: Final = 64  # messages that are handed to a reader at once
_BYTES_AT_ONCE: Final = 256 << 10  # bytes of them; a longer message is handed over alone
_HEAD: Final = b": ready\nretry: 2000\n\n"


class FeedMessage(NamedTuple):
    """A message as it is sent."""

    number: int
    kind: str
    body: bytes


class Feed:
    """The last messages, within MOST_BYTES. It belongs to the loop of the server, but for `publish_from`.

    The id of a message names the run of the worker, so that nobody resumes with an id of an earlier run.
    """

    def __init__(self) -> None:
        self.readers = 0
        self.lost_readers = 0  # those that were too slow
        self._run = secrets.token_hex(4)
        self._messages: deque[FeedMessage] = deque()
        self._bytes = 0
        self._number = 0
        self._last_reader = float("-inf")
        self._waiting: set[asyncio.Event] = set()

    def is_read(self, now: float) -> bool:
        """Return whether anybody reads, or may resume; `now` is monotonic (s). Any thread may ask."""
        return self.readers > 0 or now - self._last_reader < RESUME

    def publish(self, kind: str, data: bytes) -> None:
        """Send a message with JSON as its data."""
        self._number += 1
        body = b"id: %s-%d\nevent: %s\ndata: %s\n\n" % (self._run.encode(), self._number, kind.encode(), data)
        self._messages.append(FeedMessage(self._number, kind, body))
        self._bytes += len(body)
        while self._bytes > MOST_BYTES and len(self._messages) > 1:
            self._bytes -= len(self._messages.popleft().body)
        for reader in self._waiting:
            reader.set()

    def skip(self) -> None:
        """Note that messages are not made for a time: nobody can resume from before it."""
        self._number += 1
        self._messages.clear()
        self._bytes = 0

    def read(self, last: str, kinds: Collection[str], now: float) -> AsyncIterator[bytes]:
        """Return the messages of these kinds after the one with the id `last`, "" for those from now on.

        Raises:
            ApiError: there are too many readers.
        """
        if self.readers >= MOST_READERS:
            raise ApiError(OVERLOADED, f"{MOST_READERS} readers of the feed are the most")
        self._last_reader = now
        return self._read(last, kinds)

    async def _read(self, last: str, kinds: Collection[str]) -> AsyncIterator[bytes]:
        news = asyncio.Event()
        self._waiting.add(news)
        self.readers += 1
        try:
            place = self._place_of(last)
            yield _HEAD if place is not None else _HEAD + notice("gap")
            place = self._number if place is None else place
            while True:
                found = self._after(place)
                if found is None:
                    self.lost_readers += 1
                    yield notice("slow", self._number - place)
                    return
                if found:
                    place = found[-1].number
                    if chosen := b"".join(one.body for one in found if one.kind in kinds or one.kind == NOTICE):
                        yield chosen
                    continue
                news.clear()
                try:
                    await asyncio.wait_for(news.wait(), _BEAT)
                except TimeoutError:
                    yield b": beat\n\n"
        finally:
            self.readers -= 1
            self._waiting.discard(news)
            self._last_reader = asyncio.get_running_loop().time()

    def _after(self, place: int) -> list[FeedMessage] | None:
        """Return some messages after the one of this number; None if the next one is gone."""
        first = self._messages[0].number if self._messages else self._number + 1
        if place + 1 < first:
            return None
        found: list[FeedMessage] = []
        size = 0
        for one in islice(self._messages, place + 1 - first, place + 1 - first + _AT_ONCE):
            size += len(one.body)
            if found and size > _BYTES_AT_ONCE:
                break
            found.append(one)
        return found

    def _place_of(self, last: str) -> int | None:
        """Return the number of the message with an id; None if those after it are gone, or nobody sent it."""
        if not last:
            return self._number
        run, _, number = last.partition("-")
        if run != self._run or not (number.isascii() and number.isdigit() and len(number) < len(str(1 << 63))):
            return None
        place = int(number)
        return place if place <= self._number and self._after(place) is not None else None


def notice(reason: str, missed: int = 0) -> bytes:
    """Return a message about the feed itself, which has no id."""
    data = {"reason": reason, **({"missed": missed} if missed else {})}
    return f"event: {NOTICE}\ndata: {json_line(data)}\n\n".encode()
