"""The operation `trail_many`: the first trail of each of many connections, as of their own times."""

from __future__ import annotations

import pytest

from builders.binding_helpers import APP, OTHER, SHARED, Host
from builders.dns_builders import t
from dnstrail.protocol.lookups import ConnectionTo, TrailManyRequest, TrailRequest
from dnstrail_cache.lookups.answers import answer
from dnstrail_cache.lookups.first_trails import RIVALS, FirstTrail
from dnstrail_cache.state.cache_state import CacheState
from live.workers import SlowClock


@pytest.fixture
def host():
    return Host(grace=1, history=4)


@pytest.fixture
def state(host):
    return CacheState(host.image, SlowClock())


def first(state, address=SHARED, **fields):
    """Return the first trail of one connection."""
    [found] = answer(TrailManyRequest(connections=(ConnectionTo(address=address, **fields),)), state)
    return found


def test_the_first_trail_is_that_of_a_trail(host, state):
    """Name, state and scope are those of `trail` for the same connection; the others are its rivals."""
    for number in range(RIVALS + 3):
        host.asks(number / 10, f"n{number}")
    host.opens(1)
    host.image.advance(t(3))
    for fields in ({}, {"process": APP.pid, "port": 443}, {"process": APP.pid}, {"client": "10.0.0.9"}):
        found = first(state, **fields)
        trails = answer(TrailRequest(key=SHARED, **fields), state).trails
        assert (found.dns_root, found.state, found.scope) == (trails[0].dns_root, trails[0].state, trails[0].scope)
        assert found.rivals == [one.dns_root for one in trails[1 : RIVALS + 1]]


def test_a_bound_connection_has_its_process(host, state):
    """An open connection has the name to which it is bound, how it was bound, and its process."""
    host.asks(0, "one")
    host.opens(1)
    host.image.advance(t(3))
    found = first(state, process=APP.pid, port=443)
    assert (found.dns_root, found.bound, found.process.id, found.process.name) == ("one", "thread", 70, "app")
    assert (found.asked_by.id, found.history) == (70, True)
    assert first(state, process=71, port=443).bound == ""


def test_each_connection_has_its_own_time(host, state):
    """A connection is answered as of its time; one of the request goes before."""
    host.asks(0, "one")
    host.asks(2, "two")
    host.image.advance(t(3))
    one, two = (ConnectionTo(address=SHARED, at_ns=t(after)) for after in (1, 3))
    found = answer(TrailManyRequest(connections=(one, two, one)), state)
    assert [each.dns_root for each in found] == ["one", "two", "one"]
    found = answer(TrailManyRequest(connections=(one, two), at_ns=t(1)), state)
    assert [each.dns_root for each in found] == ["one", "one"]


def test_an_unknown_address_has_no_trail(host, state):
    """Without data the reply has an empty map, and states whether the time is known."""
    host.asks(0, "one")
    assert first(state, OTHER) == FirstTrail()
    host.image.forget(t(1))
    assert first(state, OTHER, at_ns=t(0.5)) == FirstTrail(history=False)


def test_a_reply_takes_bounded_time(host, state):
    """A reply ends once its time is over, with one connection at least."""
    host.asks(0, "one")
    for step, count in ((0.0, 9), (0.002, 3), (1.0, 1)):
        state.clock.step = step
        found = answer(TrailManyRequest(connections=(ConnectionTo(address=SHARED),) * 9), state)
        assert [each.dns_root for each in found] == ["one"] * count
