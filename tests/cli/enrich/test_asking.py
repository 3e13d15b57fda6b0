"""Tests of dnstrail_cli.enrich.asking."""

from __future__ import annotations

from contextlib import closing, contextmanager

import msgpack
import pytest

from dnstrail.bus.ipc import lookups_address
from dnstrail.client import LookupClient
from dnstrail.errors import Unavailable
from dnstrail.protocol.lookups import OVERLOADED
from dnstrail.protocol.past_lookups import HISTORY
from dnstrail_cli.enrich.asking import TrailAsker
from live.workers import FakeClock, answering, short_folder

PROCESS = {"id": 7, "name": "curl"}
OF_CACHE = {"dns_root": "of.cache.example", "process": PROCESS, "history": False}


class WithoutHistory:
    """A client whose cache is away in each lookup for the history."""

    def request(self, _op, *, history=False, **_fields):
        if history:
            raise Unavailable("ipc:///run/x", 1.0)
        return {"data": [OF_CACHE]}


@contextmanager
def asking(answer, stopped=lambda: False):
    """Yield an asker of a server that answers decoded requests with the fields of a reply."""

    def reply(body):
        return msgpack.packb({"v": 1, "ok": True, "complete": True, **answer(msgpack.unpackb(body))})

    with (
        short_folder() as folder,
        answering(lookups_address(folder), reply),
        closing(LookupClient(lookups_address(folder))) as client,
    ):
        yield TrailAsker(client, 0, [].append, stopped).ask


@pytest.mark.parametrize(
    ("of_past", "expected"),
    [
        ({"dns_root": "a.example"}, {"process": PROCESS, "dns_root": "a.example", "source": HISTORY}),
        ({"process": {"id": 8}}, {"process": {"id": 8}, "source": HISTORY}),
        ({}, {"process": PROCESS, "source": HISTORY}),
        ({"history": False}, OF_CACHE),
        (None, OF_CACHE),
    ],
)
def test_the_history_answers_where_the_cache_forgot(of_past, expected):
    """A trail that the history knows replaces the one of the cache; any other connection is not asked there."""
    known = {"dns_root": "known.example"}
    past = []

    def answer(request):
        addresses = [one["address"] for one in request["connections"]]
        if not request.get("history"):
            return {"data": [known if one == "192.0.2.0" else OF_CACHE for one in addresses]}
        past.append(addresses)
        if of_past is None:
            return {"data": [OF_CACHE for _ in addresses]}
        return {"data": [of_past for _ in addresses][:3], "source": HISTORY}

    with asking(answer) as ask:
        found = ask([{"address": f"192.0.2.{last % 10}", "at_ns": 1} for last in range(20)])
    assert found == ([known] + [expected] * 9) * 2
    assert max(len(one) for one in past) == 8
    assert "192.0.2.0" not in {address for one in past for address in one}


@pytest.mark.parametrize("answered", [0, 1])
def test_a_stop_ends_the_lookups_of_the_history(answered):
    """Once stopped, the history is not asked: connections that it has not answered keep the trail of the cache."""
    past = []

    def answer(request):
        if not request.get("history"):
            return {"data": [OF_CACHE for _ in request["connections"]]}
        past.append(request)
        return {"data": [{"dns_root": "of.past.example"}] * 2, "source": HISTORY}

    with asking(answer, lambda: len(past) >= answered) as ask:
        found = ask([{"address": f"192.0.2.{last}", "at_ns": 1} for last in range(20)])
    assert len(past) == answered
    assert [one["dns_root"] for one in found[: 2 * answered]] == ["of.past.example"] * 2 * answered
    assert found[2 * answered :] == [OF_CACHE] * (20 - 2 * answered)


def test_a_history_that_refuses_costs_its_answer_alone():
    """A refused lookup of the history ends those of this `ask`; the next one asks the cache, and the history again."""
    past = []

    def answer(request):
        if not request.get("history"):
            return {"data": [OF_CACHE for _ in request["connections"]]}
        past.append(request)
        return {"ok": False, "error": OVERLOADED, "message": "64 lookups of a past time wait already"}

    with asking(answer) as ask:
        for asked in (1, 2):
            assert ask([{"address": f"192.0.2.{last}", "at_ns": 1} for last in range(20)]) == [OF_CACHE] * 20
            assert len(past) == asked


def test_a_cache_that_goes_away_before_the_history_answers_rests():
    """Without a reply for the history, the trails of the cache remain, and the cache is not asked for five seconds."""
    clock = FakeClock()
    reports = []
    asker = TrailAsker(WithoutHistory(), 0, reports.append, lambda: False, clock.monotonic)
    assert asker.ask([{"address": "192.0.2.1"}]) == [OF_CACHE]
    assert asker.ask([{"address": "192.0.2.1"}]) is None
    assert len(reports) == 2
    clock.advance(5)
    assert asker.ask([{"address": "192.0.2.1"}]) == [OF_CACHE]


@pytest.mark.parametrize("data", [None, {}, [], [{}] * 4])
def test_a_reply_of_another_length_is_none(data):
    """A cache that returns no trails, or more than were asked for, has not answered."""
    with asking(lambda _: {"data": data}) as ask:
        assert ask([{"address": "192.0.2.1"}] * 3) is None


@pytest.mark.parametrize("reply", [{}, {"data": None}, {"data": [1]}, {"data": [None], "source": HISTORY}])
def test_a_reply_without_trails_is_no_answer(reply):
    """A cache whose replies have another form gives no trail, and ends nothing."""
    with asking(lambda _request: reply) as ask:
        assert ask([{"address": "192.0.2.1"}]) is None
