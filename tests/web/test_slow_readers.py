"""Readers that take nothing: they lose their own reply, and hold neither memory nor a thread."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import closing

import pytest

from builders.facts import fact_of, progress_of
from dnstrail.process.clock import SystemClock
from dnstrail_history.store.store import FactStore
from dnstrail_web import http_connection, past
from dnstrail_web.access import Access, own_hosts
from dnstrail_web.api import Api, State
from dnstrail_web.app import Application
from dnstrail_web.errors import ApiError
from dnstrail_web.feed import Feed
from dnstrail_web.health import Health
from dnstrail_web.muting import Muting
from dnstrail_web.past import MOST_READERS, PastRecords
from dnstrail_web.server import STATIC, ServerDiedError, WebServer, bind
from live.processes import PATIENCE
from live.web_page import WebPage, received
from live.workers import FakeClock, wait_until


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Run a server in this process, which is patient for a moment alone."""
    monkeypatch.setattr(http_connection, "SLOWEST", 1.0)
    monkeypatch.setattr(past, "PATIENCE", 1.0)
    with closing(FactStore(tmp_path / "history", FakeClock())) as store:
        for number in range(20_000):  # longer than what the kernel buffers
            assert store.add(fact_of(number))
            if number % 1000 == 999:
                assert store.commit(progress_of(number))
    history = PastRecords(tmp_path / "history")
    listener, clock, feed = bind("127.0.0.1", 0), SystemClock(), Feed()
    port = listener.getsockname()[1]
    access = Access(tmp_path, f"http://127.0.0.1:{port}", port, clock.monotonic, secure=False)
    state = State(None, None, history, feed, Health(), Muting(None, clock.wall), None, clock, "h")
    application = Application(Api(state), access, own_hosts(["127.0.0.1"], port), "http", STATIC)
    found = WebServer(application, access, feed, listener, None)
    access.new_link()
    found.start()
    page = WebPage(None, tmp_path)
    page.enter()
    yield found, page, feed, history
    found.close()


def held(page: WebPage, path: str) -> socket.socket:
    """Return a connection whose reply nobody reads."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(60)
    connection.connect(("127.0.0.1", page.port))
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {page.host}\r\nCookie: {page.cookie}\r\n\r\n".encode())
    return connection


def test_a_reader_of_the_feed_that_takes_nothing_is_closed(server):
    """The feed of a reader that takes nothing ends; another reader receives all messages meanwhile."""
    running, page, feed, _ = server
    with closing(held(page, "/api/events")):
        other = page.feed()
        wait_until(lambda: feed.readers == 2, "two readers")
        number = 0
        while feed.readers == 2:
            running.publish("questions", b'"%s"' % (b"a" * 60_000))
            number += 1
            assert other.next("questions")[2] == "a" * 60_000
            time.sleep(0.01)  # paces the messages
            assert number < 10_000
        other.close()
    wait_until(lambda: feed.readers == 0, "no reader")


def test_a_reader_of_the_log_that_takes_nothing_gives_its_place_up(server, monkeypatch):
    """All places of readers of the log are taken by some that take nothing: they are closed, and others read."""
    _, page, _, history = server
    monkeypatch.setattr(http_connection, "SLOWEST", PATIENCE)
    monkeypatch.setattr(past, "PATIENCE", PATIENCE)
    connections = [held(page, "/api/log") for _ in range(MOST_READERS)]
    wait_until(lambda: history.reading == MOST_READERS, "no room")
    monkeypatch.setattr(http_connection, "SLOWEST", 1.0)
    wait_until(lambda: history.reading == 0, "room")
    assert len(page.request("GET", "/api/log?last=7")[2].splitlines()) == 7
    for connection in connections:
        connection.close()
    wait_until(lambda: not any(thread.name == "log" for thread in threading.enumerate()), "no thread")


def test_a_log_that_nobody_takes_gives_its_place_up(server):
    """A reply that is never begun, since its client has left, holds neither a place nor a thread."""
    _, _, _, history = server

    async def body():
        await history.log({})  # what it returns is never read
        assert history.reading == 1
        for _ in range(600):
            if not history.reading:
                break
            await asyncio.sleep(0.1)
        return history.reading

    assert asyncio.run(body()) == 0


def test_a_slow_reader_is_told_by_the_end_of_its_reply(server):
    """The reply of a reader that was too slow is cut short, so that it is not taken for a whole one."""
    _, _, _, history = server

    async def body():
        chunks = await history.log({})
        await anext(chunks)
        for _ in range(600):
            if not history.reading:  # its patience has ended
                break
            await asyncio.sleep(0.1)
        with pytest.raises(ApiError):
            async for _ in chunks:
                pass

    asyncio.run(body())


def test_readers_of_the_log_are_bounded(server):
    """One reader more than the bound is refused, with the error of the wire."""
    _, page, _, history = server
    history.reading = MOST_READERS
    assert page.json("/api/log")["error"] == "overloaded"
    assert page.json("/api/new")["error"] == "overloaded"
    history.reading = 0
    assert page.json("/api/new")["ok"]


def test_the_end_of_the_server_ends_its_feeds(server):
    """At its end the server does not wait for readers."""
    running, page, feed, _ = server
    reader = page.feed()
    wait_until(lambda: feed.readers == 1, "a reader")
    running.close()
    assert received(reader.connection) is not None
    reader.close()


def test_a_server_that_cannot_accept_ends(server, monkeypatch):
    """A fault while connections are accepted ends the server, which its worker learns."""
    running, page, _, _ = server
    fault = RuntimeError("a fault")

    def fail(_: socket.socket) -> None:
        raise fault

    monkeypatch.setattr(http_connection, "peer_of", fail)
    page.raw(b"")
    wait_until(lambda: not running._thread.is_alive(), "the end")
    with pytest.raises(ServerDiedError) as died:
        running.check()
    assert died.value.__cause__ is fault
