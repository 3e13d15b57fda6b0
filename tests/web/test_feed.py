"""The live feed: order, resumption, bounds, and readers that are too slow."""

from __future__ import annotations

import asyncio

import pytest

from dnstrail_web import feed as module
from dnstrail_web.errors import ApiError
from dnstrail_web.feed import KINDS, MOST_READERS, Feed


async def some(feed: Feed, last: str = "", kinds: tuple[str, ...] = KINDS, count: int = 1) -> list[bytes]:
    """Return the first parts that a reader receives after the head."""
    found = []
    messages = feed.read(last, kinds, 0)
    async for part in messages:
        found.append(part)
        if len(found) > count:
            break
    await messages.aclose()
    return found[1:]


def test_a_reader_receives_the_messages_of_its_kinds_in_order():
    """Messages that are sent while a reader is there arrive in their order, those of other kinds do not."""

    async def body():
        feed = Feed()
        reader = asyncio.create_task(some(feed, kinds=("questions",)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for number in range(3):
            feed.publish("questions", b"[%d]" % number)
            feed.publish("findings", b"[9]")
        [part] = await reader
        assert [line for line in part.decode().splitlines() if line.startswith("data")] == [
            f"data: [{number}]" for number in range(3)
        ]

    asyncio.run(body())


def test_a_reader_resumes_after_any_id():
    """A reader that resumes after any of the messages receives all later ones, each once."""

    async def body():
        feed = Feed()
        for number in range(9):
            feed.publish("questions", b"%d" % number)
        ids = [message.body.split(b"\n")[0].removeprefix(b"id: ").decode() for message in feed._messages]
        for place, last in enumerate(ids[:-1]):
            [part] = await some(feed, last)
            assert [int(line[6:]) for line in part.splitlines() if line.startswith(b"data")] == [*range(place + 1, 9)]

    asyncio.run(body())


def test_messages_are_bounded_and_a_slow_reader_loses_its_feed(monkeypatch):
    """Beyond the bound the oldest messages go: a reader that lacks one is told how many, and its feed ends."""
    monkeypatch.setattr(module, "MOST_BYTES", 1000)

    async def body():
        feed = Feed()
        messages = feed.read("", KINDS, 0)
        await anext(messages)
        feed.publish("questions", b"[1]")
        assert b"data: [1]" in await anext(messages)
        for _ in range(100):
            feed.publish("questions", b"a" * 100)
        assert sum(len(message.body) for message in feed._messages) <= 1000
        assert await anext(messages) == b'event: notice\ndata: {"reason":"slow","missed":100}\n\n'
        with pytest.raises(StopAsyncIteration):
            await anext(messages)
        assert (feed.readers, feed.lost_readers) == (0, 1)

    asyncio.run(body())


def test_a_message_longer_than_the_bound_is_kept_alone(monkeypatch):
    """The last message is kept, however long it is."""
    monkeypatch.setattr(module, "MOST_BYTES", 10)
    feed = Feed()
    for _ in range(3):
        feed.publish("questions", b"a" * 100)
    assert len(feed._messages) == 1


def test_the_bytes_that_a_reader_receives_at_once_are_bounded():
    """A reader that lags receives the messages in parts of few bytes; a longer message arrives alone."""

    async def body():
        feed = Feed()
        sizes = [100_000, 100_000, 100_000, 300_000, 10]
        for size in sizes:
            feed.publish("questions", b"a" * size)
        parts = await some(feed, f"{feed._run}-0", count=4)
        assert [part.count(b"data: ") for part in parts] == [2, 1, 1, 1]

    asyncio.run(body())


def test_readers_are_bounded():
    """One reader more than the bound is refused."""

    async def body():
        feed = Feed()
        readers = [feed.read("", KINDS, 0) for _ in range(MOST_READERS)]
        for reader in readers:
            await anext(reader)
        with pytest.raises(ApiError) as refused:
            feed.read("", KINDS, 0)
        assert refused.value.code == "overloaded"
        for reader in readers:
            await reader.aclose()
        feed.read("", KINDS, 0)

    asyncio.run(body())


def test_an_idle_feed_beats(monkeypatch):
    """A feed without messages sends signs of life."""
    monkeypatch.setattr(module, "_BEAT", 0.01)
    assert asyncio.run(some(Feed())) == [b": beat\n\n"]


def test_nobody_resumes_from_before_a_pause():
    """A reader that resumes with an id from before messages were left out is told to fetch anew."""

    async def body():
        feed = Feed()
        feed.publish("questions", b"[]")
        last = feed._messages[0].body.split(b"\n")[0].removeprefix(b"id: ").decode()
        feed.skip()
        messages = feed.read(last, KINDS, 0)
        assert b'"gap"' in await anext(messages)
        await messages.aclose()

    asyncio.run(body())
