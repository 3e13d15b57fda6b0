from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from dnstrail.events import NET_PACKET_DNS
from dnstrail.image import Bounds, Image
from dnstrail.image.bounds import SECOND
from dnstrail.protocol.batches import TURN, Batch, Turn, encode
from dnstrail.protocol.catch_up import SETTLED
from dnstrail.protocol.lookups import HealthRequest, StatsRequest
from dnstrail_cache.feed.feeder import Feeder
from dnstrail_cache.lookups.answers import answer
from dnstrail_cache.state.cache_state import CacheState
from dnstrail_cache.state.health import SILENCE, TurnTimes, status_of
from live.workers import FakeClock, Messages, response, seen

NOW = 100.0
RECENT, SILENT = NOW - 3.5, NOW - 3.501
# The probes: the arrival of the last turn of each, and whether it ended the source.
STATUSES = {
    "no probe": ([], "waiting"),
    "one that sends turns": ([(RECENT, False)], "ok"),
    "one that ended": ([(RECENT, True)], "ended"),
    "one that ended long ago": ([(SILENT, True)], "ended"),
    "one that stopped": ([(SILENT, False)], "silent"),
    "two that stopped": ([(SILENT, False), (SILENT, False)], "silent"),
    "one of two stopped": ([(SILENT, False), (RECENT, False)], "vanished"),
    "one ended, the other sends turns": ([(SILENT, True), (RECENT, False)], "ok"),
    "one ended, the other stopped": ([(SILENT, True), (SILENT, False)], "silent"),
    "one ended, one sends turns, one stopped": ([(SILENT, True), (RECENT, False), (SILENT, False)], "vanished"),
}


@pytest.mark.parametrize(("probes", "status"), STATUSES.values(), ids=STATUSES)
def test_the_status_of_the_probes(probes, status):
    """A probe is silent after 3.5 seconds without a turn, and vanished if another one still sends turns."""
    turns = [Turn(str(number), 0, {}, True, 0, ended) for number, (_, ended) in enumerate(probes)]
    times = {str(number): TurnTimes(0.0, at) for number, (at, _) in enumerate(probes)}
    assert status_of(turns, times, NOW) == status


# The second start: its host, the arrival of its first turn, and whether it ended.
RESTARTS = {
    "a restart of the probe": ("web1", SILENT + 0.5, False, "ok"),
    "a restart that ended": ("web1", SILENT + 0.5, True, "ended"),
    "another probe of the same host": ("web1", SILENT - 0.5, False, "vanished"),
    "a probe of another host": ("web2", SILENT + 0.5, False, "vanished"),
}


@pytest.mark.parametrize(("host", "first", "ended", "status"), RESTARTS.values(), ids=RESTARTS)
def test_a_probe_that_was_restarted_has_not_vanished(host, first, ended, status):
    """A killed probe no longer counts once a later start on its host sends turns."""
    turns = [Turn(name, 0, {}, True, 0, end, host=at) for name, at, end in (("a", "web1", False), ("b", host, ended))]
    assert status_of(turns, {"a": TurnTimes(0.0, SILENT), "b": TurnTimes(first, NOW)}, NOW) == status


def test_starts_of_unknown_hosts_replace_none():
    """Without a host name a restart looks like a second probe, and both count."""
    turns = [Turn(name, 0, {}, True, 0) for name in "ab"]
    assert status_of(turns, {"a": TurnTimes(0.0, SILENT), "b": TurnTimes(SILENT + 0.5, NOW)}, NOW) == "vanished"


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def state(clock):
    return CacheState(Image(), clock)


@pytest.fixture
def turn(state, clock):
    """Publish one turn of a probe, and apply it."""
    messages = Messages()
    feeder = Feeder(messages, state, lambda _event, _batch: None)

    def publish(start="s", number=0, *, ended=False):
        messages.waiting.append((TURN, encode(Turn(start, number, {}, True, round(clock.wall() * SECOND), ended))))
        feeder.drain()

    publish.feeder, publish.messages = feeder, messages
    return publish


def health(state):
    return answer(HealthRequest(), state)


def test_a_probe_that_is_killed_is_reported(state, clock, turn):
    """Health is ok while turns arrive, silent 3.5 seconds after the last one, and ok once they arrive again."""
    assert health(state)["status"] == "waiting"
    turn()
    clock.advance(3.5)
    assert health(state)["status"] == "ok"
    clock.advance(0.001)
    assert health(state)["status"] == "silent"
    turn(number=1)
    assert health(state)["status"] == "ok"
    turn(number=2, ended=True)
    assert health(state)["status"] == "ended"
    clock.advance(100)
    assert health(state)["status"] == "ended"


@pytest.mark.parametrize(("late", "status"), [(1.0, "ok"), (1.001, "behind")])
def test_a_cache_that_is_behind_is_reported(state, clock, late, status):
    """Health is behind while the last turn that was applied is more than a second slower than the fastest one."""
    messages = Messages()
    feeder = Feeder(messages, state, lambda _event, _batch: None)

    def apply(number, now):
        messages.waiting.append((TURN, encode(Turn("s", number, {}, True, round(now * SECOND)))))
        feeder.drain()
        return health(state)["status"]

    assert apply(0, clock.wall()) == "ok"
    clock.advance(60)
    assert apply(1, clock.wall() - late) == status
    assert apply(2, clock.wall()) == "ok"
    assert apply(3, clock.wall() - 10) == "behind"
    clock.advance(SILENCE + 0.001)
    assert (health(state)["status"], state.lag) == ("silent", 0)


def test_a_vanished_probe_is_counted_once_and_logged(state, clock, turn):
    """A start that stops without its last turn is counted and logged by its name, once however long it is away."""
    turn("dead")
    turn("alive")
    with capture_logs() as logs:
        for number in range(1, 12):
            clock.advance(0.5)
            turn("alive", number)
    assert health(state)["status"] == "vanished"
    assert state.counters == {"probes_vanished": 1}
    assert logs == [{"event": "probe_vanished", "start": "dead", "log_level": "warning"}]


def test_a_cache_that_stood_still_counts_no_probe_that_went_on(state, clock, turn):
    """The turns of the time for which the cache was stopped wait; a probe that is silent after it is counted."""
    turn("probe")
    clock.advance(60.0)
    turn.feeder.drain()
    assert (health(state)["status"], state.counters["probes_vanished"]) == ("ok", 0)
    turn("probe", 1)
    for _ in range(4):  # as an idle cache does
        clock.advance(1.0)
        turn.feeder.drain()
    assert (health(state)["status"], state.counters["probes_vanished"]) == ("silent", 1)


def test_health_says_whether_the_image_is_fed(state, turn):
    """`fed` is false until an event is applied: turns alone are not enough."""
    turn()
    assert health(state)["fed"] is False
    event = seen(response("a.com", "a.com 60 A 192.0.2.1"))
    turn.messages.waiting.append(("net_packet_dns", encode(Batch("s", 1, 0, [event]))))
    turn.feeder.drain()
    assert health(state)["fed"] is True


def test_endless_probes_leave_nothing_behind(clock):
    """Memory stays bounded however many probes come and go, and a live one is followed throughout."""
    state = CacheState(Image(Bounds(probes=4)), clock)
    feeder = Feeder(messages := Messages(), state, lambda _event, _batch: None)
    for number in range(100):
        for start, ended in (("live", False), (f"s{number}", number % 2 == 0)):
            batch = Batch(start, number, number, [seen(response("a.com", "a.com 60 A 192.0.2.1"))], host=start)
            end = Turn(start, number, {NET_PACKET_DNS: number}, True, 0, ended)
            messages.waiting.extend([(NET_PACKET_DNS, encode(batch)), (TURN, encode(end))])
        while feeder.drain():
            pass
        clock.monotonic_time += 1.0 if number % 2 else 0.0
    assert len(state.turn_times) == len(state.probes) == len(state.stream._shifts) == 4
    assert (state.probes[0].turn, state.follower.reached(("live", 99))) == (99, True)
    assert state.counters["refused_events"] == state.counters["probes_refused"] > 0


def test_a_probe_beyond_the_bound_harms_nobody(clock):
    """Its events and turns change nothing: neither the doubt, nor what is found, nor the health."""
    state = CacheState(Image(Bounds(probes=1)), clock)
    feeder = Feeder(messages := Messages(), state, lambda _event, _batch: None)
    messages.waiting.append((TURN, encode(Turn("s", 0, {}, True, 0, host="one"))))
    feeder.drain()
    clock.advance(40.0)  # the doubt at the start of a probe has passed
    messages.waiting.append((TURN, encode(Turn("s", 1, {}, True, 40, host="one"))))
    feeder.drain()
    before, doubts = state.status, dict(state.image.admission.doubts._hosts)
    batch = Batch("t", 3, 0, [seen(response("a.com", "a.com 60 A 192.0.2.1"))], host="two")
    messages.waiting.extend([(NET_PACKET_DNS, encode(batch)), (TURN, encode(Turn("t", 9, {}, True, 0, host="two")))])
    feeder.drain()
    assert (state.status, dict(state.image.admission.doubts._hosts)) == (before, doubts)
    assert (len(state.image), state.follower.lost, state.applied) == (0, {}, {})
    assert state.counters == {"probes_refused": 1, "refused_events": 1}
    assert answer(StatsRequest(), state)["lost"]["bus"] == {"refused_events": 1}


def test_a_probe_whose_turns_wait_for_a_replay_has_not_vanished(state, clock):
    """While a restarted cache still catches up with one probe, those of an earlier run may be heard later."""
    state.resumed = frozenset({"later"})
    state.follower.awaits_starts = True
    clock.advance(SETTLED + 1)
    assert state.vanished == set()
    state.follower.awaits_starts = False
    assert state.vanished == {"later"}
