"""The membership of a worker: it follows what the cache replies, and changes nothing while the cache is away."""

from __future__ import annotations

from collections import deque

import pytest

from dnstrail.errors import LookupRefused, Unavailable
from dnstrail.protocol.batches import Turn
from dnstrail.protocol.members import EXPIRY, MAX_NAME, REMEMBERED, RENEWAL, Work
from dnstrail_signatures.group.join import LONGEST, group_name
from dnstrail_signatures.group.membership import Membership
from dnstrail_signatures.group.ownership import Span

NOW = 50.0


class FakeCache:
    """A client of a cache with the replies of a test."""

    timeout = 1.0

    def __init__(self) -> None:
        self.sent: list[dict] = []
        self.replies: deque = deque()
        self.away = False

    def send(self, op, **fields):
        assert op == "join"
        self.sent.append(fields)
        return not self.away

    def reply(self):
        if not self.replies:
            return None
        reply = self.replies.popleft()
        if isinstance(reply, Exception):
            raise reply
        return reply

    def request(self, op, **fields):
        self.sent.append(fields)
        raise Unavailable("ipc:///x", 1.0)

    def close(self):
        pass


@pytest.fixture
def cache():
    return FakeCache()


@pytest.fixture
def me(cache):
    return Membership(cache, "g", "me", NOW)


def members(*others, settled=True, epoch=1):
    """Return a reply: each other member with its progress (start, first, last), or its name alone."""
    known = [
        {"worker": name, "progress": [[*one, 0, 0] for one in progress], "left": left}
        for name, left, *progress in others
    ]
    return {"ok": True, "data": {"epoch": epoch, "settled": settled, "members": known}}


def turn(number, start="s", now=0):
    return Turn(start, number, {}, live=True, now=now)


def step(me, cache, reply, now):
    """Send a renewal that is due, and read its reply."""
    me.step(now, Work)
    cache.replies.append(reply)
    return me.step(now + 0.001, Work)


def spans(me, start="s"):
    return me.owners.spans.get(start)


def test_a_worker_waits_for_its_first_reply(me, cache):
    """Until the cache has replied, nothing is handled."""
    assert me.waits
    step(me, cache, members(), NOW)
    assert not me.waits


def test_a_new_start_waits_for_a_reply_to_a_later_request(me, cache):
    """The members at the beginning of a start are those of a reply to a request that was sent after its first message.

    They handle it from its beginning, since they joined before they subscribed.
    """
    step(me, cache, members(("b", False)), NOW)
    me.receive("s", 0, NOW + 0.5)
    assert me.waits
    step(me, cache, members(("b", False), ("c", False)), NOW + 0.5)
    assert not me.waits
    assert spans(me) == {"me": Span(0), "b": Span(0), "c": Span(0)}


def test_a_member_that_received_the_start_later_hands_its_first_turns_back(me, cache):
    """Members count as handling a new start until they report otherwise, and for three seconds at most."""
    me.receive("s", 0, NOW)
    step(me, cache, members(("b", False), ("c", False)), NOW)
    before = step(me, cache, members(("b", False, ("s", 4, 9)), ("c", False)), NOW + RENEWAL)
    assert before.spans["s"] == {"me": Span(0), "b": Span(0), "c": Span(0)}
    assert spans(me) == {"me": Span(0), "b": Span(4), "c": Span(0)}
    step(me, cache, members(("b", False, ("s", 4, 9)), ("c", False)), NOW + EXPIRY)
    assert spans(me) == {"me": Span(0), "b": Span(4)}


def test_a_member_that_joins_later_owns_nothing_until_it_states_a_turn(me, cache):
    """A start that is known already belongs to the others until the new member states its first turn."""
    me.receive("s", 0, NOW)
    step(me, cache, members(), NOW)
    step(me, cache, members(("new", False, ("s", None, 5))), NOW + RENEWAL)
    assert spans(me) == {"me": Span(0)}
    step(me, cache, members(("new", False, ("s", 40, 20))), NOW + 2 * RENEWAL)
    assert spans(me) == {"me": Span(0), "new": Span(40)}


def test_a_worker_that_joins_later_states_a_turn_that_lies_ahead(me, cache):
    """After a second it states the turn that it expects in two more seconds, at the pace that it observed."""
    me.receive("s", 100, NOW)
    step(me, cache, members(("b", False, ("s", 0, 99))), NOW)
    assert spans(me) == {"b": Span(0)}
    me.handle(turn(150))
    step(me, cache, members(("b", False, ("s", 0, 150))), NOW + RENEWAL)
    assert spans(me) == {"me": Span(251), "b": Span(0)}
    assert [sent["progress"][0][1:3] for sent in cache.sent] == [[None, -1], [251, 150]]


def test_a_departed_member_keeps_the_turns_that_it_has_handled(me, cache):
    """After the last turn of a member that has left, its actors belong to others."""
    me.receive("s", 0, NOW)
    step(me, cache, members(("b", False)), NOW)
    step(me, cache, members(("b", True, ("s", 0, 12))), NOW + RENEWAL)
    assert spans(me) == {"me": Span(0), "b": Span(0, 12)}


def test_nothing_changes_while_the_cache_is_away(me, cache):
    """Without a reply the owners stay as they are, for however long; each second another request is sent."""
    me.receive("s", 0, NOW)
    step(me, cache, members(("b", False)), NOW)
    cache.sent.clear()
    assert all(me.step(NOW + seconds * RENEWAL, Work) is None for seconds in range(1, 100))
    assert len(cache.sent) == 99
    assert spans(me) == {"me": Span(0), "b": Span(0)}


def test_a_cache_that_has_just_started_removes_no_member(me, cache):
    """A reply that is not settled adds members, and removes none."""
    me.receive("s", 0, NOW)
    step(me, cache, members(("b", False, ("s", 0, 1))), NOW)
    assert step(me, cache, members(settled=False), NOW + RENEWAL) is None


def test_a_member_that_a_cache_without_state_does_not_know_has_left(me, cache):
    """Once the cache has settled, a missing member has left after its last known turn; that is remembered for 20 s."""
    me.receive("s", 0, NOW)
    step(me, cache, members(("b", False, ("s", 0, 1))), NOW)
    for second in range(int(REMEMBERED)):
        step(me, cache, members(), NOW + 1 + second)
        assert spans(me) == {"me": Span(0), "b": Span(0, 1)}
    step(me, cache, members(), NOW + 1 + REMEMBERED)
    assert spans(me) == {"me": Span(0)}


def test_a_worker_that_is_refused_later_handles_what_others_leave_behind(me, cache):
    """Without a place in the group a worker cannot learn that another one dies: it counts all of them as gone."""
    me.receive("s", 0, NOW)
    step(me, cache, members(("b", False, ("s", 0, 1))), NOW)
    step(me, cache, LookupRefused("overloaded", "full"), NOW + RENEWAL)
    assert spans(me) == {"me": Span(0), "b": Span(0, 1)}


def test_a_start_counts_as_handled_once_all_expected_members_have_reported_it(me, cache):
    """If a member that is expected to handle a start is dead, nobody has handled its part until it is known."""
    step(me, cache, members(("b", False)), NOW)
    me.receive("s", 0, NOW)
    step(me, cache, members(("b", False)), NOW)
    for second, last in ((1, -1), (2, -1), (3, -1), (4, 30)):
        me.handle(turn(10 * (second - 1)))
        step(me, cache, members(("b", False)), NOW + second * RENEWAL)
        assert cache.sent[-1]["progress"][0][2] == last


def test_a_start_that_began_while_nobody_lived_is_missed_from_its_beginning(me, cache):
    """Members that had left before this worker joined, and know nothing of the start, have handled nothing of it."""
    step(me, cache, members(("b", True, ("r", 0, 9))), NOW)
    me.receive("s", 7, NOW)
    step(me, cache, members(("b", True, ("r", 0, 9))), NOW)
    assert spans(me) == {"b": Span(0, -1)}
    assert me.had_members("s")


def test_a_member_that_died_before_it_stated_its_first_turn_leaves_the_rest_behind(me, cache):
    """It handled all turns until then, as no other member did."""
    me.receive("s", 200, NOW)
    step(me, cache, members(("b", True, ("s", None, 110))), NOW)
    assert spans(me) == {"b": Span(111, 110)}


def test_a_member_lives_on_until_a_restarted_cache_has_settled(me, cache):
    """A cache goes on with members that it knows from before: a living one may not have renewed its membership yet."""
    me.receive("s", 0, NOW)
    step(me, cache, members(("b", False, ("s", 0, 9))), NOW)
    restored = ("b", True, ("s", 0, 1)), ("c", True, ("s", 0, 4))
    step(me, cache, members(*restored, settled=False), NOW + RENEWAL)
    assert spans(me) == {"me": Span(0), "b": Span(0), "c": Span(0, 4)}
    step(me, cache, members(*restored), NOW + 2 * RENEWAL)
    assert spans(me) == {"me": Span(0), "b": Span(0, 1), "c": Span(0, 4)}


def test_a_renewal_states_the_changes_that_were_taken_in(me, cache):
    """A change is taken in once the batches from before it were handled: the next renewal states its epoch."""
    me.receive("s", 0, NOW)
    step(me, cache, members(epoch=3), NOW)
    me.renew(NOW + 2 * RENEWAL)  # in the middle of a takeover
    step(me, cache, members(epoch=4), NOW + 3 * RENEWAL)
    me.step(NOW + 4 * RENEWAL, Work)
    assert [sent["epoch"] for sent in cache.sent] == [0, 0, 3, 4]
    me.receive("t", 9, NOW + 5 * RENEWAL)  # of which those that have left may have left something behind
    step(me, cache, members(epoch=5), NOW + 5 * RENEWAL)
    me.receive("u", 9, NOW + 6 * RENEWAL)
    me.step(NOW + 6 * RENEWAL, Work)
    assert cache.sent[-1]["epoch"] == 4


def test_a_renewal_between_two_steps_is_sent_once_the_next_step_is_late(me, cache):
    """It neither delays the next step nor repeats what that sends."""
    me.receive("s", 9, NOW)
    me.step(NOW, Work)
    for tenth in range(1, 10 * int(EXPIRY)):
        me.renew(NOW + tenth / 10)
    assert len(cache.sent) == 2
    me.handle(turn(10))
    me.step(NOW + EXPIRY, Work)
    assert cache.sent[-1]["progress"][0][1] is not None  # the turn from which it handles its share


def test_a_renewal_states_no_change_that_is_not_settled(me, cache):
    """A member that has left by a reply that is not settled counts as living: its end is not taken in."""
    me.receive("s", 0, NOW)
    step(me, cache, members(epoch=3), NOW)
    step(me, cache, members(("b", True), epoch=9, settled=False), NOW + RENEWAL)
    me.step(NOW + 2 * RENEWAL, Work)
    assert cache.sent[-1]["epoch"] == 3


@pytest.mark.parametrize("away", [True, False], ids=["not reachable", "silent"])
def test_a_worker_without_a_cache_goes_on_alone(me, cache, away):
    """After three seconds without a reply a worker handles all events."""
    cache.away = away
    me.receive("s", 0, NOW)
    me.step(NOW, Work)
    assert me.step(NOW + EXPIRY - 0.01, Work) is None
    assert me.waits
    me.step(NOW + EXPIRY, Work)
    assert not me.waits
    assert me.owners.share("s", 0).whole


@pytest.mark.parametrize(
    "reply", [LookupRefused("overloaded", "full"), {"ok": True, "data": {"x": 1}}], ids=["refused", "another version"]
)
def test_a_worker_that_is_refused_goes_on_alone(me, cache, reply):
    """A worker that finds no room in the group, or no such operation, handles all events."""
    me.receive("s", 0, NOW)
    step(me, cache, reply, NOW)
    assert me.owners.share("s", 0).whole


def test_a_finding_reports_since_when_its_actor_is_owned(me, cache):
    """`since` is the time of the last change by which the worker came to own the actor."""
    me.receive("s", 0, NOW)
    me.handle(turn(0, now=1000))
    step(me, cache, members(("b", False, ("s", 0, 0))), NOW)
    me.handle(turn(9, now=2000))
    step(me, cache, members(("b", True, ("s", 0, 8))), NOW + RENEWAL)
    share = me.owners.share("s", 0)
    mine, moved = (next(str(n) for n in range(99) if share.owns(str(n)) is owned) for owned in (True, False))
    assert (me.since("s", 9, mine), me.since("s", 9, moved)) == (1000, 2000)
    assert me.since("s", 0, moved) is None


def test_a_worker_that_joined_reports_the_beginning_of_its_share(me, cache):
    """`since` is the end of the turn before the first one that the worker handles, not the time of its decision."""
    me.receive("s", 100, NOW)
    step(me, cache, members(), NOW)
    me.handle(turn(150, now=1000))
    step(me, cache, members(), NOW + RENEWAL)
    assert me.since("s", 251, "actor") is None
    me.handle(turn(250, now=3000))
    assert me.since("s", 251, "actor") == 3000


def test_a_start_that_is_forgotten_has_no_owner(me, cache):
    """A start that gave way is reported no more, and a message of it that still comes makes it a new one."""
    for start in ("gone", "s"):
        me.receive(start, 0, NOW)
    step(me, cache, members(), NOW)
    me.forget("gone")
    step(me, cache, members(), NOW + RENEWAL)
    assert ([sent[0] for sent in cache.sent[-1]["progress"]], me.owners.spans.keys()) == (["s"], {"s"})
    me.receive("gone", 7, NOW + RENEWAL)
    assert me.waits


def test_a_worker_that_leaves_learns_that_the_others_have_reported_a_start(me, cache):
    """Its turns count as handled then: nobody handles them again."""
    step(me, cache, members(("b", False)), NOW)
    me.receive("s", 0, NOW)
    step(me, cache, members(("b", False)), NOW)
    me.handle(turn(5))
    cache.request = lambda _op, **fields: cache.sent.append(fields) or members(("b", False, ("s", 0, 4)))
    me.leave()
    assert [sent["progress"][0][2] for sent in cache.sent[-2:]] == [-1, 5]


@pytest.mark.parametrize(
    "reply", [members(("b", True)), members(("b", False)), {"data": 1}], ids=["dead", "silent", "bad"]
)
def test_a_worker_that_leaves_leaves_the_part_of_others_behind(me, cache, reply):
    """If one of them is dead or has reported nothing, nobody may have handled its part."""
    step(me, cache, members(("b", False)), NOW)
    me.receive("s", 0, NOW)
    step(me, cache, members(("b", False)), NOW)
    me.handle(turn(5))
    cache.request = lambda _op, **fields: cache.sent.append(fields) or reply
    me.leave()
    assert (cache.sent[-1]["progress"][0][2], cache.sent[-1]["leave"]) == (-1, True)


def test_leaving_waits_for_no_cache(me, cache):
    """The end of a worker is reported once, with a short time limit."""
    me.leave()
    assert cache.sent[-1]["leave"] is True
    assert cache.timeout < 1.0


def test_the_longest_group_has_a_name_that_the_cache_accepts():
    """The cache bounds the name of a group together with the digest of its signatures."""
    assert len(group_name("x" * LONGEST, [])) == MAX_NAME
