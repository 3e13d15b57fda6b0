"""The membership of a worker: it follows what the cache replies, and changes nothing while the cache is away.

Tests of dnstrail_signatures.group.handled.
"""

from __future__ import annotations

import pytest

from builders.fake_cache import FakeCache, members
from dnstrail.errors import LookupRefused
from dnstrail.protocol import MOST_PROBES
from dnstrail.protocol.batches import Turn
from dnstrail.protocol.members import EXPIRY, MAX_NAME, REMEMBERED, RENEWAL, Work
from dnstrail_signatures.group.membership import LONGEST, Membership, group_name

NOW = 50.0


@pytest.fixture
def cache():
    return FakeCache()


@pytest.fixture
def me(cache):
    return Membership(cache, "g", "me", NOW)


def turn(number, start="s", now=0):
    return Turn(start, number, {}, live=True, now=now)


def step(me, cache, reply, now):
    """Send a renewal that is due, and read its reply."""
    me.step(now, Work)
    cache.replies.append(reply)
    return me.step(now + 0.001, Work)


def owners(me, turn=0, start="s"):
    """Return the members that handle a turn, as this worker knows them."""
    return {member for share in me.shares(start, turn) for member in share.members}


def progress(cache):
    """Return the starts of the last request with their first and last turns."""
    return {start: (first, last) for start, first, last, *_ in cache.sent[-1]["progress"]}


def test_a_worker_waits_for_its_first_reply(me, cache):
    """Until the cache has replied, nothing is handled."""
    assert me.waits
    step(me, cache, members(), NOW)
    assert not me.waits


def test_a_new_start_waits_until_all_members_have_received_it(me, cache):
    """Of a reply to a request that was sent after its first message; they joined before they subscribed."""
    step(me, cache, members("b", "c"), NOW)
    me.receive("s", 0, NOW + 0.5)
    assert me.waits
    step(me, cache, members("b", ("c", {"s": None})), NOW + 0.5)
    assert me.waits
    assert me.shares("s", 0) == []
    [takeover] = step(me, cache, members("b", "c"), NOW + 0.6)
    assert (me.waits, takeover.after, owners(me)) == (False, -1, {"me", "b", "c"})


def test_a_new_start_waits_for_a_member_for_three_seconds(me, cache):
    """One that has not received it by then may be dead: until it reports the start, the others handle its part."""
    step(me, cache, members("b"), NOW)
    me.receive("s", 0, NOW)
    step(me, cache, members(("b", {"s": None})), NOW + EXPIRY - 0.01)
    assert me.waits
    step(me, cache, members(("b", {"s": None})), NOW + EXPIRY + RENEWAL)
    assert (me.waits, owners(me)) == (False, {"me"})


def test_a_member_that_joins_later_owns_nothing_before_its_first_turn(me, cache):
    """A start that is known already belongs to the others until then."""
    me.receive("s", 0, NOW)
    step(me, cache, members(), NOW)
    step(me, cache, members(("new", {"s": None})), NOW + RENEWAL)
    assert owners(me, 40) == {"me"}
    step(me, cache, members(("new", {"s": 40})), NOW + 2 * RENEWAL)
    assert [owners(me, turn) for turn in (39, 40)] == [{"me"}, {"me", "new"}]


def test_a_worker_that_joins_in_the_middle_of_a_turn_begins_with_the_next_one(me, cache):
    """Without another member it handles what it receives of the turn at hand, too."""
    me.receive("s", 100, NOW)
    step(me, cache, members("b"), NOW)
    assert progress(cache) == {"s": (101, 99)}
    assert [owners(me, turn) for turn in (100, 101)] == [{"b"}, {"me", "b"}]
    me.receive("t", 100, NOW + RENEWAL)
    step(me, cache, members(("b", {"t": 150})), NOW + RENEWAL)
    assert owners(me, 100, "t") == {"me"}


def test_a_worker_takes_over_after_the_last_turn_of_a_member_that_has_left(me, cache):
    """The turns so far stay as they were, and it handles what it gains of those after the last one."""
    me.receive("s", 0, NOW)
    step(me, cache, members("b"), NOW)
    me.receive("s", 20, NOW)
    [takeover] = step(me, cache, members(s=12), NOW + RENEWAL)
    assert (takeover.start, takeover.after, takeover.counted) == ("s", 12, 12)
    assert [one.members for one in takeover.shares(13)] == [("b", "me")]
    assert owners(me, 21) == {"me"}
    assert step(me, cache, members(s=12), NOW + 2 * RENEWAL) == []  # once


def test_nothing_is_taken_over_without_a_gain(me, cache):
    """A member that handles another start, or one that came and went in between, gives nobody anything."""
    me.receive("s", 0, NOW)
    step(me, cache, members("b"), NOW)
    assert step(me, cache, members("b", s=0, t=3), NOW + RENEWAL) == []


def test_nothing_changes_while_the_cache_is_away(me, cache):
    """Without a reply the owners stay as they are, for however long; each second another request is sent."""
    me.receive("s", 0, NOW)
    step(me, cache, members("b"), NOW)
    cache.sent.clear()
    assert not any(me.step(NOW + seconds * RENEWAL, Work) for seconds in range(1, 100))
    assert len(cache.sent) == 99
    assert owners(me) == {"me", "b"}


def test_a_cache_that_has_just_started_removes_no_member(me, cache):
    """A reply that is not settled adds members, and removes none; what was left behind counts once it has settled."""
    me.receive("s", 0, NOW)
    step(me, cache, members("b"), NOW)
    step(me, cache, members("c", settled=False, run="q", s=4), NOW + RENEWAL)
    assert owners(me, 1) == {"me", "b", "c"}
    [takeover] = step(me, cache, members("c", run="q", s=4), NOW + 2 * RENEWAL)
    assert (takeover.after, owners(me, 1)) == (None, {"me", "c"})
    me.receive("s", 9, NOW)
    [takeover] = step(me, cache, members(run="q", s=4), NOW + 3 * RENEWAL)
    assert takeover.after == 4


@pytest.mark.parametrize("refused", [True, False], ids=["refused", "a cache without state"])
def test_members_of_which_nothing_is_known_any_more_may_have_left_everything(me, cache, refused):
    """All that the probes replay is taken over, and what comes after the last contact counts as lost without it."""
    me.receive("s", 0, NOW)
    step(me, cache, members("b"), NOW)
    me.handle(turn(7))
    step(me, cache, members("b"), NOW + RENEWAL)
    me.receive("s", 20, NOW)
    reply = LookupRefused("overloaded", "full") if refused else members(run="another")
    [takeover] = step(me, cache, reply, NOW + 2 * RENEWAL)
    assert (takeover.after, takeover.counted, owners(me, 21)) == (-1, 7, {"me"})


def test_a_start_that_began_while_nobody_lived_is_missed_from_its_beginning(me, cache):
    """Members that had left before this worker joined, and know nothing of the start, have handled nothing of it."""
    step(me, cache, members(r=9), NOW)
    me.receive("s", 7, NOW)
    [takeover] = step(me, cache, members(r=9), NOW)
    assert (takeover.after, takeover.counted) == (-1, -1)


def test_the_first_member_of_a_group_begins_with_the_present(me, cache):
    """Nobody has handled the turns before, and nobody counts them."""
    step(me, cache, members(), NOW)
    me.receive("s", 7, NOW)
    [takeover] = step(me, cache, members("b"), NOW)
    assert (takeover.after, takeover.counted) == (6, 6) or takeover.after is None


def test_what_was_left_behind_of_a_start_is_reported_until_it_is_received(me, cache):
    """If this worker dies before, the next one has to take it over; after 90 seconds it is forgotten."""
    step(me, cache, members(s=9), NOW)
    me.receive("t", 0, NOW)
    step(me, cache, members(), NOW)
    me.step(NOW + RENEWAL, Work)
    assert progress(cache) == {"s": (None, 9), "t": (0, -1)}
    step(me, cache, members(), NOW + 2 * REMEMBERED)
    me.step(NOW + 3 * REMEMBERED, Work)
    assert progress(cache) == {"t": (0, -1)}


def test_the_starts_that_others_left_behind_are_bounded(me, cache):
    """A worker remembers the latest 4,096 of those that it has not received."""
    for reply in range(3):
        step(me, cache, members(**{f"{reply} {number}": 7 for number in range(3000)}), NOW + reply * RENEWAL)
    me.step(NOW + 4 * RENEWAL, Work)
    assert len(progress(cache)) == len(me._behind) == MOST_PROBES
    assert "2 2999" in progress(cache)


def test_a_turn_counts_as_handled_once_the_worker_has_taken_over(me, cache):
    """A renewal in the middle of the takeover reports how far the others had come."""
    step(me, cache, members(s=9), NOW)
    me.receive("s", 50, NOW)
    me.handle(turn(50))
    step(me, cache, members(s=9), NOW)
    me.renew(NOW + 2 * RENEWAL)
    assert progress(cache) == {"s": (51, 9)}
    me.step(NOW + 4 * RENEWAL, Work)
    assert progress(cache) == {"s": (51, 50)}


def test_a_renewal_states_the_changes_that_were_taken_in(me, cache):
    """A change is taken in once the batches from before it were handled: the next renewal states its epoch."""
    me.receive("s", 0, NOW)
    step(me, cache, members(epoch=3), NOW)
    me.renew(NOW + 2 * RENEWAL)  # in the middle of a takeover
    step(me, cache, members(epoch=4), NOW + 3 * RENEWAL)
    me.step(NOW + 4 * RENEWAL, Work)
    assert [sent["epoch"] for sent in cache.sent] == [0, 0, 3, 4]
    me.receive("t", 9, NOW + 5 * RENEWAL)  # of which those that have left may have left something behind
    step(me, cache, members(("b", {"t": None}), epoch=5), NOW + 5 * RENEWAL)
    me.step(NOW + 6 * RENEWAL, Work)
    assert cache.sent[-1]["epoch"] == 4


def test_a_step_shortly_before_the_second_is_over_renews(me, cache):
    """One that a turn of a probe causes each second is enough; without any, one is due a fifth of a second later."""
    step(me, cache, members(), NOW)
    sent = len(cache.sent)
    assert me.due == NOW + 1.2 * RENEWAL
    me.step(NOW + 0.89 * RENEWAL, Work)
    assert len(cache.sent) == sent
    me.step(NOW + 0.91 * RENEWAL, Work)
    assert (len(cache.sent), me.due) == (sent + 1, NOW + 2.11 * RENEWAL)


def test_a_renewal_between_two_steps_is_sent_once_the_next_step_is_late(me, cache):
    """It neither delays the next step nor repeats what that sends."""
    me.receive("s", 9, NOW)
    me.step(NOW, Work)
    for tenth in range(1, 10 * int(EXPIRY)):
        me.renew(NOW + tenth / 10)
    assert len(cache.sent) == 2


def test_a_renewal_states_no_epoch_of_another_cache(me, cache):
    """An epoch counts in the run of the cache that stated it, once that has settled."""
    me.receive("s", 0, NOW)
    step(me, cache, members(epoch=3), NOW)
    step(me, cache, members(epoch=9, settled=False, run="q"), NOW + RENEWAL)
    me.step(NOW + 2 * RENEWAL, Work)
    assert (cache.sent[-1]["epoch"], cache.sent[-1]["cache"]) == (0, "q")


@pytest.mark.parametrize("away", [True, False], ids=["not reachable", "silent"])
def test_a_worker_without_a_cache_goes_on_alone(me, cache, away):
    """After three seconds without a reply a worker handles all events."""
    cache.away = away
    me.receive("s", 0, NOW)
    me.step(NOW, Work)
    assert not me.step(NOW + EXPIRY - 0.01, Work)
    assert me.waits
    me.step(NOW + EXPIRY, Work)
    assert (me.waits, owners(me)) == (False, {"me"})


@pytest.mark.parametrize(
    "reply",
    [
        LookupRefused("overloaded", "full"),
        {"data": {"x": 1}},
        {"data": {"epoch": 1, "settled": True, "members": [{"worker": "b", "progress": []}]}},
    ],
    ids=["refused", "something else", "an earlier version"],
)
def test_a_worker_that_is_refused_goes_on_alone(me, cache, reply):
    """A worker that finds no room in the group, or no such operation, handles all events."""
    me.receive("s", 0, NOW)
    step(me, cache, reply, NOW)
    assert owners(me) == {"me"}


def test_a_finding_reports_since_when_its_actor_is_owned(me, cache):
    """`since` is the time of the last change by which the worker came to own the actor."""
    me.receive("s", 0, NOW)
    step(me, cache, members("b"), NOW)
    me.handle(turn(0, now=1000))
    [share] = me.shares("s", 0)
    mine, moved = (next(str(n) for n in range(99) if share.owns(str(n)) is owned) for owned in (True, False))
    assert me.since("s", 0, moved) is None
    me.handle(turn(9, now=2000))
    step(me, cache, members(s=8), NOW + RENEWAL)
    assert (me.since("s", 9, mine), me.since("s", 9, moved)) == (1000, 2000)
    me.receive("s", 10, NOW)
    step(me, cache, members("b"), NOW + 2 * RENEWAL)
    assert (me.since("s", 10, mine), me.since("s", 10, moved)) == (1000, 2000)  # the rest of the turn


def test_a_worker_that_joined_reports_the_beginning_of_its_share(me, cache):
    """`since` is the end of the turn before the first one that the worker handles."""
    me.receive("s", 100, NOW)
    step(me, cache, members(), NOW)
    assert me.since("s", 101, "actor") is None
    me.handle(turn(100, now=3000))
    assert me.since("s", 101, "actor") == 3000


def test_a_start_that_is_forgotten_has_no_owner(me, cache):
    """A start that gave way is reported no more, and a message of it that still comes makes it a new one."""
    for start in ("gone", "s"):
        me.receive(start, 0, NOW)
    step(me, cache, members(), NOW)
    me.forget("gone")
    step(me, cache, members(), NOW + RENEWAL)
    assert (progress(cache).keys(), me.shares("gone", 0)) == ({"s"}, [])
    me.receive("gone", 7, NOW + RENEWAL)
    assert me.waits


def test_a_worker_that_leaves_has_handled_nothing_of_a_start_that_it_has_not_begun_with(me, cache):
    """If members are dead, nobody may have handled the turns before the first one that it received."""
    step(me, cache, members("b"), NOW)
    me.receive("s", 7, NOW)
    me.receive("t", 0, NOW)
    step(me, cache, members(("b", {"s": None, "t": None})), NOW)
    me.leave()
    assert (progress(cache), cache.sent[-1]["leave"]) == ({"s": (8, -1), "t": (0, -1)}, True)


def test_leaving_waits_for_no_cache(me, cache):
    """The end of a worker is reported once, with a short time limit."""
    me.leave()
    assert cache.sent[-1]["leave"] is True
    assert cache.timeout < 1.0


def test_the_longest_group_has_a_name_that_the_cache_accepts():
    """The cache bounds the name of a group together with the digest of its signatures."""
    assert len(group_name("x" * LONGEST, [])) == MAX_NAME
