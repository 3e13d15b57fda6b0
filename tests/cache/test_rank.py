"""The bounds of a `rank` and of a `get_many`, which may contain 1,024 addresses with thousands of names."""

from __future__ import annotations

import pytest

from builders.binding_helpers import SHARED, Host
from builders.dns_builders import t
from dnstrail.captured import Flow, Process
from dnstrail.image import Bounds, Circumstances, Image
from dnstrail.image.binding.bindings import SEARCHED
from dnstrail.image.bounds import SECOND
from dnstrail.image.trails import names
from dnstrail.image.trails.path import find_paths
from dnstrail.protocol.lookups import ConnectionTo, GetManyRequest, RankRequest
from dnstrail_cache.lookups import answers
from dnstrail_cache.state.cache_state import CacheState
from live.workers import FakeClock, response


@pytest.fixture
def state():
    """Return a cache with four names of 192.0.2.1, and one name of each of 192.0.2.2 to 192.0.2.4."""
    image = Image()
    for number in range(4):
        image.feed((1000 + number) * SECOND, response(f"n{number}.com", f"n{number}.com 60 A 192.0.2.1"))
    for number in range(2, 5):
        image.feed(1003 * SECOND, response(f"m{number}.com", f"m{number}.com 60 A 192.0.2.{number}"))
    return CacheState(image, FakeClock())


def rank(state, *connections):
    """Return the names of connections, each given as the last number of its address and its process."""
    asked = tuple(ConnectionTo(address=f"192.0.2.{last}", process=process) for last, process in connections)
    return answers.answer(RankRequest(connections=asked), state)


FOUR = ["n3.com", "n2.com", "n1.com", "n0.com"]


def test_within_the_bounds_each_connection_is_ranked(state):
    """Without pressure every connection has all names of its address."""
    assert rank(state, (1, 7), (2, 7), (1, 8), (9, 7)) == [FOUR, ["m2.com"], FOUR, []]
    assert not state.counters


def test_the_names_of_one_reply_are_bounded(state, monkeypatch):
    """A reply never contains more names than its bound; connections beyond it have none, and are counted."""
    monkeypatch.setattr(answers, "_MAX_NODES", 6)
    assert [len(each) for each in rank(state, (1, 7), (1, 8), (2, 7))] == [4, 2, 0]
    assert state.counters == {"rank_cut_short": 1}


def test_repeated_connections_share_the_bound(state, monkeypatch):
    """A connection that a request repeats is ranked once, and its names count each time."""
    monkeypatch.setattr(answers, "_MAX_NODES", 9)
    assert rank(state, *[(1, 7)] * 5) == [FOUR, FOUR, FOUR[:1], [], []]


def test_repeated_keys_share_the_bound(state, monkeypatch):
    """The results of a key that `get_many` repeats are cut beyond the bound, and marked as truncated."""
    monkeypatch.setattr(answers, "_MAX_NODES", 12)
    found = answers.answer(GetManyRequest(keys=("192.0.2.1",) * 4), state)
    assert [len(data.dns_queries) for data in found] == [4, 4, 1, 1]
    assert [data.truncated for data in found] == [False, False, True, True]
    assert [data.dns_root for data in found] == ["n3.com"] * 4


def test_the_spellings_of_a_key_are_one_lookup(state):
    """A key that `get_many` repeats in 1,000 spellings is one lookup, and counts as 1,000 hits."""
    spellings = [" " * number + "192.0.2.1" for number in range(998)]
    found = answers.answer(GetManyRequest(keys=(*spellings, "::ffff:192.0.2.1", "1.2.0.192.in-addr.arpa")), state)
    assert [data.dns_root for data in found] == ["n3.com"] * 1000
    assert all(data == found[0] for data in found)
    assert state.counters == {"hits": 1000}


def test_the_work_of_one_request_is_bounded(state, monkeypatch):
    """Beyond this work the rest of the connections share what was looked up: other lookups wait meanwhile."""
    monkeypatch.setattr(answers, "_MAX_WORK", 18)  # the four names take 17, and one name 2
    ranked = rank(state, (1, 7), (2, 7), (3, 7), (4, 7), (1, 8), (2, 8))
    assert ranked == [FOUR, ["m2.com"], [], [], FOUR, ["m2.com"]]
    assert state.counters == {"rank_cut_short": 4}


def test_an_address_with_9000_names_reaches_the_bound():
    """Two connections to it are ranked, whatever the load of the machine; the third has the names in plain order."""
    image = Image(Bounds(size=10_000))
    for number in range(9000):
        asked_by(image, 7 + number % 3, f"n{number}.com", "192.0.2.1", stamp=1000 + number / 1000, ttl=3600)
    state = CacheState(image, FakeClock())
    *ranked, plain = rank(state, (1, 7), (1, 8), (1, 9))
    assert [each[:2] for each in ranked] == [["n8997.com", "n8994.com"], ["n8998.com", "n8995.com"]]
    assert plain == image.get("192.0.2.1", now=state.now).dns_queries
    assert state.counters == {"rank_cut_short": 1, "rank_crowded": 2}


def asked_by(image, process, name, address, stamp=1004.0, ttl=60):
    """Apply an answer that a process received."""
    kind = "AAAA" if ":" in address else "A"
    to_client = Flow(bytes([10, 0, 0, 53]), 53, bytes([10, 0, 0, 2]), 40000, socket=7)
    image.feed(
        round(stamp * SECOND),
        response(name, f"{name} {ttl} {kind} {address}", rdtype=kind),
        Circumstances(to_client, Process(process)),
    )


def test_no_connection_gets_the_order_of_another(state, monkeypatch):
    """Beyond that work a connection has the names of its address in the order of a lookup."""
    asked_by(state.image, 7, "mine.com", "192.0.2.1", stamp=1000.5)
    asked_by(state.image, 9, "last.com", "192.0.2.1")
    monkeypatch.setattr(answers, "_MAX_WORK", 1)
    mine, plain = rank(state, (1, 7), (1, 8))
    assert mine == ["mine.com", "last.com", *FOUR]
    assert plain == ["last.com", *FOUR[:3], "mine.com", FOUR[3]]


@pytest.mark.parametrize("sinkhole", ["127.0.0.1", "::ffff:127.0.0.1", "::"])
def test_a_sinkhole_is_never_shared(state, monkeypatch, sinkhole):
    """Beyond that work a connection to a sinkhole has no names of another process."""
    asked_by(state.image, 7, "ads.test", sinkhole.removeprefix("::ffff:"))
    monkeypatch.setattr(answers, "_MAX_WORK", 1)
    asked = tuple(ConnectionTo(address=sinkhole, process=process) for process in (7, 8))
    assert answers.answer(RankRequest(connections=asked), state) == [["ads.test"], []]


def test_connections_to_one_address_share_its_walks(state, monkeypatch):
    """The names and trails of an address are found once for all connections of a request."""
    walks = []
    monkeypatch.setattr(names, "find_paths", lambda *args: walks.append(args) or find_paths(*args))
    assert rank(state, *[(1, process) for process in range(7, 20)]) == [FOUR] * 13
    assert len(walks) == 1


def test_a_crowded_address_is_counted(state, monkeypatch):
    """An address with too many names to rank them is counted for each connection to it."""
    monkeypatch.setattr(names, "MAX_RANKED", 3)
    asked_by(state.image, 7, "mine.com", "192.0.2.1", stamp=1000.5)
    assert rank(state, (1, 7), (1, 8), (2, 7))[0] == ["mine.com", *FOUR]
    assert state.counters == {"rank_crowded": 2}


def test_a_bound_connection_is_ranked_as_of_its_time(state):
    """However late it is asked, a connection has its name first, then the others, as of its own time."""
    host, later = Host(), response("z.com", f"z.com 60 A {SHARED}")
    host.asks(0, "one").asks(0.1, "two", by=Process(9, thread_id=9))
    assert host.opens(1) == "one"
    host.image.feed(t(2), later)
    state.image = host.image
    event = ("s", t(1))
    bound = ConnectionTo(address=f"::ffff:{SHARED}", socket=host.socket, event=event)
    unknown = ConnectionTo(address=SHARED, socket=99, event=event)
    now = ConnectionTo(address=SHARED)
    found = answers.answer(RankRequest(connections=(bound, unknown, now)), state)
    assert found == [["one", "two"], ["two", "one"], ["z.com", "two", "one"]]


def test_a_connection_beyond_the_work_has_its_bound_name(state, monkeypatch):
    """A connection that is not ranked, since the others took too much work, has its bound name first."""
    host = Host().asks(0, "one").asks(0.1, "two", by=Process(9, thread_id=9))
    host.opens(1)
    state.image = host.image
    monkeypatch.setattr(answers, "_MAX_WORK", 1)
    asked = [ConnectionTo(address=SHARED, process=number, socket=host.socket) for number in range(3)]
    assert answers.answer(RankRequest(connections=tuple(asked)), state) == [["one", "two"]] * 3
    assert state.counters == {"rank_cut_short": 2}


def test_the_connections_that_are_searched_are_work(state):
    """Connections without a socket are searched among those to their address: a request searches so many in all."""
    host = Host(connections=10_000).asks(0, "one")
    for number in range(6000):
        host.opens(1 + number / 10_000, by=Process(80, thread_id=80))
    state.image = host.image
    asked = [ConnectionTo(address=SHARED, process=number, port=443) for number in range(100, 200)]
    answers.answer(RankRequest(connections=tuple(asked)), state)
    most = answers._MAX_WORK // (SEARCHED // 8)
    assert most - 2 <= 100 - state.counters["rank_cut_short"] <= most


def test_the_last_connections_to_an_address_are_searched():
    """A connection that is described by its process is found among so many that were opened later, and no more."""
    host = Host(connections=10_000).asks(0, "one")
    host.opens(1)
    for number in range(SEARCHED - 1):
        host.opens(2 + number / 10_000, by=Process(80, thread_id=80))
    assert host.bound(3, process=70, port=443) == "one"
    host.opens(3, by=Process(80, thread_id=80))
    assert host.bound(3.1, process=70, port=443) == ""
