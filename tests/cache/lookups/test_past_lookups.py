"""Lookups of a time that the cache no longer remembers go to the history, whatever that one does."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack

import msgpack
import pytest
import zmq

import dnstrail_cache.worker
from dnstrail.bus.ipc import history_address, lookups_address
from dnstrail.protocol.lookups import RefusedRequestError, encode_data, encode_error
from dnstrail.protocol.past_lookups import HISTORY, PastImage, decode_past
from dnstrail_cache.lookups import past_lookups as module
from dnstrail_cache.lookups.past_lookups import MAX_PAST, MAX_PAST_OF_CLIENT
from live.workers import BOUND, answering, asker, cache, probe, response, seen, short_folder, wait_until

BEFORE = 1000.0  # a time before the cache began
FOUND = {"ip_addresses": ["192.0.2.9"], "dns_queries": ["old.example"], "dns_root": "old.example", "history": True}
NOW = response("new.example", "new.example 300 A 192.0.2.1")
GARBAGE = [
    b"",
    b"\xc1",
    b"\xdf\xff\xff\xff\xff",
    msgpack.packb([1]),
    msgpack.packb({"v": 1, "ok": True, "data": FOUND}),
    msgpack.packb({"v": 2, "ok": True, "source": "history"}),
    b"\x91" * 2000,
    encode_data("x" * (module.MAX_REPLY + 1), source=HISTORY),
]


@pytest.fixture
def folder():
    with short_folder() as folder:
        yield folder


def at(folder):
    """Return the address of the history of a cache."""
    return history_address(lookups_address(folder))


@pytest.fixture
def client(folder):
    """Yield a client of a cache that has just begun, and knows one name."""
    with cache(folder) as address, asker(address) as client, probe(folder, live=True) as publishing:
        mark = publishing.turn(seen(NOW, time.time()))
        assert client.ask("get", key="new.example", after=[mark])["ok"]
        yield client


@pytest.fixture
def patient(monkeypatch):
    """Let lookups wait for the history for as long as a test may."""
    monkeypatch.setattr(module, "PATIENCE", BOUND)


def counted(client, *names):
    """Return counters of the cache."""
    found = client.ask("stats")["data"]["cache"]
    return [found.get(name, 0) for name in names]


@pytest.mark.parametrize(
    ("op", "fields"),
    [
        ("get", {"key": "k"}),
        ("trail", {"key": "k"}),
        ("get_many", {"keys": ["k"]}),
        ("trail_many", {"connections": [{"address": "192.0.2.1"}], "history": True}),
        ("connections", {}),
    ],
)
@pytest.mark.usefixtures("patient")
def test_a_lookup_of_a_time_before_the_cache_is_answered_by_the_history(folder, client, op, fields):
    """The history receives the request with the bounds of the image, and its reply is handed on as it is."""
    asked = []

    def answer(body):
        asked.append(decode_past(body))
        return encode_data(FOUND, source=HISTORY)

    with answering(at(folder), answer):
        reply = client.ask(op, at=BEFORE, **fields)
    assert reply == {"v": 1, "ok": True, "data": FOUND, "complete": True, "source": "history"}
    [(request, image)] = asked
    assert (request.at, image) == (BEFORE, PastImage(60.0, 300.0))
    assert counted(client, "past", "past_unanswered") == [1, 0]


@pytest.mark.usefixtures("patient")
def test_a_refusal_of_the_history_is_handed_on(folder, client):
    """The history knows what it does not know."""
    refusal = encode_error(RefusedRequestError("data_not_found", "no", history=False), source=HISTORY)
    with answering(at(folder), lambda _: refusal):
        reply = client.ask("get", key="k", at_ns=round(BEFORE * 1e9))
    assert (reply["error"], reply["history"], reply["source"]) == ("data_not_found", False, "history")


def test_other_lookups_are_never_forwarded(folder, client):
    """Those of the present, of a time that it remembers, and of events at hand, as of a signature, are its own."""
    asked = []
    with answering(at(folder), asked.append):
        mark = ["start", 0]
        for fields in (
            {"key": "new.example"},
            {"key": "new.example", "at": time.time()},
            {"key": "k", "event": ["start", 5]},
            {"key": "k", "event": ["start", 5], "after": [mark]},
            {"key": "k", "at": BEFORE, "after": [mark]},
        ):
            assert "source" not in client.ask("get", **fields), fields
        assert "source" not in client.ask("connections", at=time.time())
        for op in ("rank", "trail_many"):
            assert "source" not in client.ask(op, connections=[{"address": "192.0.2.1"}], at=BEFORE)
    assert asked == []


def test_without_a_history_the_cache_answers_by_itself_at_once(client):
    """It does not know the time: `history` is false."""
    reply = client.ask("get", key="new.example", at=BEFORE)
    assert (reply["error"], reply["history"], "source" in reply) == ("data_not_found", False, False)
    assert counted(client, "past", "past_unanswered") == [0, 0]


@pytest.mark.parametrize("garbage", [None, *GARBAGE], ids=lambda one: str(one and one[:4]))
def test_what_the_history_does_not_answer_the_cache_answers(monkeypatch, folder, client, garbage):
    """A history that is slow, or sends no reply of this size, makes a lookup `history: false` and no more."""
    monkeypatch.setattr(dnstrail_cache.worker, "_IDLE", 1e6)  # nothing else wakes the cache at the deadline
    with answering(at(folder), lambda _: garbage):
        reply = client.ask("get", key="new.example", at=BEFORE)
        assert (reply["error"], reply["history"], "source" in reply) == ("data_not_found", False, False)
        assert counted(client, "past", "past_unanswered") == [1, 1]
        assert client.ask("get", key="new.example")["ok"]


def test_a_history_that_was_killed_and_returns_is_asked_again(folder, client):
    """Its socket is left, and nobody serves it: lookups of the past end in time, until it serves again."""
    with answering(at(folder), lambda _: encode_data(FOUND, source=HISTORY)):
        wait_until(lambda: client.ask("get", key="k", at=BEFORE).get("source") == HISTORY, "the history")
    path = folder / "history.sock"
    path.touch()
    assert client.ask("get", key="k", at=BEFORE)["history"] is False
    path.unlink()
    with answering(at(folder), lambda _: encode_data(FOUND, source=HISTORY)):
        wait_until(lambda: client.ask("get", key="k", at=BEFORE).get("source") == HISTORY, "the history")


def test_a_late_reply_is_given_to_nobody(folder, client):
    """The reply to a lookup that was answered without it is not the reply to the next one."""
    late, first = threading.Event(), []

    def answer(body):
        request, _ = decode_past(body)
        if not first:
            first.append(request)
            late.wait(BOUND)
        return encode_data({**FOUND, "dns_root": request.key}, source=HISTORY)

    with answering(at(folder), answer):
        assert client.ask("get", key="first.example", at=BEFORE)["history"] is False
        late.set()

        def answered():
            reply = client.ask("get", key="second.example", at=BEFORE)
            assert reply.get("data", {}).get("dns_root") in (None, "second.example")
            return reply["ok"]

        wait_until(answered, "the reply to the second one")


@pytest.mark.usefixtures("patient")
def test_a_flood_of_past_lookups_delays_no_present_one(folder, client):
    """Of one client some wait, of all a bound, and few are with the history; a present lookup is answered meanwhile."""
    release, asked = threading.Event(), []

    def answer(body):
        asked.append(body)
        release.wait(BOUND)
        return encode_data(FOUND, source=HISTORY)

    with answering(at(folder), answer), ExitStack() as stack:
        clients = [stack.enter_context(asker(f"ipc://{folder}/lookups.sock", kind=zmq.DEALER)) for _ in range(12)]
        for one in clients:
            for number in range(20):
                one.send("get", key=f"n{number}.example", at=BEFORE)
        began = counted(client, "requests")
        assert began
        assert client.ask("get", key="new.example")["ok"]
        wait_until(lambda: counted(client, "overloaded")[0] >= 12 * 20 - MAX_PAST, "the refusals")
        assert len(asked) <= 1, "one after another"
        release.set()
        replies = [one.receive() for one in clients for _ in range(20)]
    codes = [reply.get("error", reply.get("source")) for reply in replies]
    assert codes.count("overloaded") >= 12 * (20 - MAX_PAST_OF_CLIENT)
    assert len(codes) == 240
