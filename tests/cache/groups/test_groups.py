"""The groups of signature workers at the cache: memberships expire, are bounded, and belong to one user.

Tests of dnstrail_cache.groups.group.
"""

from __future__ import annotations

import os

import pytest

from dnstrail.captured import Captured, Process
from dnstrail.events import SCHED_PROCESS_EXIT
from dnstrail.protocol.lookups import JoinRequest, RefusedRequestError
from dnstrail.protocol.members import EXPIRY, Progress, Work
from dnstrail_cache.groups.group_stats import group_stats
from dnstrail_cache.groups.groups import (
    MAX_GROUPS,
    MAX_GROUPS_OF_USER,
    MAX_MEMBERS,
    MAX_STARTS_OF_USER,
    REMEMBERED,
    RESUMABLE,
    Groups,
)
from live.workers import FakeClock, asker, cache, probe, short_folder, wait_until_seen

BEGIN = 100.0
FIRST = 100_000_000  # the epoch of a group that has just begun
EXIT = SCHED_PROCESS_EXIT, Captured(1, process=Process(1))


def join(groups, worker, now=BEGIN, *, group="g", user=1000, leave=False, progress=(), epoch=0):
    request = JoinRequest(group=group, worker=worker, user=user, leave=leave, progress=progress, epoch=epoch)
    return groups.join(request, now)


def renew(groups, worker, begin, end, epoch):
    """Renew a membership each second from one time to another; return the last reply."""
    return [join(groups, worker, begin + second, epoch=epoch) for second in range(int(end - begin) + 1)][-1]


def last_turns(members):
    """Return the last turn of the start s of each member that has left."""
    return {member.worker: member.progress[0].last for member in members.members if member.left}


def last_turns_of(members, name):
    return next(member.progress[0].last for member in members.members if member.worker == name)


def living(members):
    return {member.worker for member in members.members if not member.left}


@pytest.fixture
def groups():
    return Groups(BEGIN)


def test_the_members_of_a_group_are_reported(groups):
    """A reply contains all members of the group with their progress, and counts their changes."""
    join(groups, "a", progress=(Progress("s", 0, 7),))
    reply = join(groups, "b")
    assert living(reply) == {"a", "b"}
    assert reply.members[0].progress == (Progress("s", 0, 7),)
    assert (reply.epoch, join(groups, "b").epoch) == (FIRST + 2, FIRST + 2)


def test_a_membership_expires_and_is_remembered_for_a_while(groups):
    """A member that does not renew has left after three seconds; its last progress is reported for 20 seconds."""
    join(groups, "a", progress=(Progress("s", 0, 7),))
    assert living(join(groups, "b", BEGIN + EXPIRY - 0.01)) == {"a", "b"}
    reply = join(groups, "b", BEGIN + EXPIRY)
    assert living(reply) == {"b"}
    assert reply.members[0].progress == (Progress("s", 0, 7),)
    assert groups.counters["members_expired"] == 1
    assert len(renew(groups, "b", BEGIN + EXPIRY, BEGIN + REMEMBERED - 1, reply.epoch).members) == 2
    assert len(join(groups, "b", BEGIN + REMEMBERED).members) == 1


def test_a_member_is_remembered_until_the_others_know_of_its_end(groups):
    """A takeover may take longer than 20 seconds: if its worker dies, the next one has to learn of both."""
    join(groups, "a", progress=(Progress("s", 0, 100),))
    for second in range(1, 60):
        join(groups, "b", BEGIN + second, progress=(Progress("s", 0, 100 + second),))
    assert last_turns(join(groups, "c", BEGIN + 70)) == {"a": 100, "b": 100}


def test_the_last_members_are_remembered_until_the_next_one_has_taken_over(groups):
    """A worker asks again for the members once it receives a start: those that left long ago are still there."""
    join(groups, "a", progress=(Progress("s", 0, 7),), leave=True)
    epoch = join(groups, "b", BEGIN + RESUMABLE - 1).epoch
    assert last_turns(join(groups, "b", BEGIN + RESUMABLE, epoch=epoch)) == {"a": 7}
    assert last_turns(renew(groups, "b", BEGIN + RESUMABLE, BEGIN + RESUMABLE + REMEMBERED, epoch)) == {}


def test_members_that_die_one_after_the_other_take_nothing_over(groups):
    """What a member left behind after its last turn, another that died before it knew has not handled either."""
    join(groups, "a", progress=(Progress("s", 0, 100),))
    epoch = join(groups, "b", BEGIN + 0.9, progress=(Progress("s", 0, 90),)).epoch
    join(groups, "b", BEGIN + 1.9, progress=(Progress("s", 0, 190),), epoch=epoch)
    assert last_turns(join(groups, "new", BEGIN + EXPIRY)) == {"a": 100}
    assert last_turns(join(groups, "new", BEGIN + EXPIRY + 1.9)) == {"a": 100, "b": 100}


def test_a_member_that_knew_of_an_end_has_taken_over(groups):
    """The turns of a member count to its last one if it had taken in that the other left; so do those of the other."""
    join(groups, "a", progress=(Progress("s", 0, 100),))
    epoch = join(groups, "b", BEGIN + EXPIRY).epoch
    join(groups, "b", BEGIN + EXPIRY + 1, progress=(Progress("s", 0, 400),), epoch=epoch)
    assert last_turns(join(groups, "c", BEGIN + 2 * EXPIRY + 1)) == {"a": 100, "b": 400}


def test_an_end_is_unknown_through_others_too(groups):
    """B knew that A had left, but not C, which did not know of A: then B has not handled what A left to C."""
    for name, last in (("a", 100), ("b", 120), ("c", 110)):
        join(groups, name, progress=(Progress("s", 0, last),))
    epoch = join(groups, "a", leave=True, progress=(Progress("s", 0, 100),)).epoch
    join(groups, "b", progress=(Progress("s", 0, 120),), epoch=epoch)
    assert last_turns(join(groups, "new", BEGIN + EXPIRY)) == {"a": 100, "b": 100, "c": 100}


def test_a_member_leaves_no_turn_behind_that_was_not_its_own(groups):
    """The turns before the first one of a member, and other starts, stay with those that have handled them."""
    join(groups, "a", progress=(Progress("s", 0, 260), Progress("t", 0, 7)))
    join(groups, "b", progress=(Progress("s", 251, 200),))
    join(groups, "c", progress=(Progress("s", None, 180),))
    reply = join(groups, "new", BEGIN + EXPIRY)
    assert last_turns(reply) == {"a": 250, "b": 200, "c": 180}
    assert [one.last for member in reply.members for one in member.progress if one.start == "t"] == [7]


@pytest.mark.parametrize(
    "epoch", [0, FIRST - 1, FIRST + 99], ids=["not stated", "of an earlier cache", "of another host"]
)
def test_an_epoch_that_the_cache_has_not_reported_is_not_known(groups, epoch):
    """A member that states an epoch from before a restart counts as one that knows nothing."""
    join(groups, "a", progress=(Progress("s", 0, 100),), leave=True)
    join(groups, "b", progress=(Progress("s", 0, 400),), epoch=FIRST + 2)
    join(groups, "b", progress=(Progress("s", 0, 400),), epoch=epoch)
    assert last_turns(join(groups, "c", BEGIN + EXPIRY)) == {"a": 100, "b": 100}


def test_the_members_of_a_saved_group_have_left_together(groups):
    """A cache that goes on counts no turn of the members that another one has not handled, whenever it was saved."""
    join(groups, "a", progress=(Progress("s", 0, 100),))
    join(groups, "b", progress=(Progress("s", 0, 120),))
    assert last_turns(join(resumed(groups), "c")) == {"a": 100, "b": 100}
    epoch = join(groups, "a", progress=(Progress("s", 0, 110),), leave=True).epoch
    assert last_turns(join(resumed(groups), "c")) == {"a": 110, "b": 110}  # b knew nothing of the end of a
    join(groups, "b", progress=(Progress("s", 0, 120),), epoch=epoch)
    assert last_turns(join(resumed(groups), "c")) == {"b": 120}


def resumed(groups, passed=0.0, at=BEGIN):
    """Return the groups of a cache that goes on from these, saved at a wall time of 1,000 s, some seconds later."""
    new = Groups(at)
    new.resume(groups.saved(BEGIN, 1000.0), at, 1000.0 + passed)
    return new


def test_a_restarted_cache_knows_how_far_the_members_were(groups):
    """Until they renew their memberships they have left: a worker that joins goes on where they were."""
    epoch = join(groups, "b", leave=True).epoch + 1
    join(groups, "a", progress=(Progress("s", 0, 7),))
    join(groups, "a", progress=(Progress("s", 0, 7),), epoch=epoch)
    reply = join(resumed(groups), "c")
    assert [(one.worker, one.progress, one.left) for one in reply.members] == [
        ("a", (Progress("s", 0, 7),), True),
        ("c", (), False),
    ]
    assert not reply.settled
    assert living(join(resumed(groups), "a")) == {"a"}


def test_a_group_without_members_is_saved_as_it_was_left(groups):
    """A group whose members have left keeps all of them, for ten minutes of wall time in all."""
    join(groups, "a", BEGIN - RESUMABLE + 10, progress=(Progress("s", 0, 7),), leave=True)
    assert len(join(resumed(groups, 9), "c").members) == 2
    assert len(join(resumed(groups, 11), "c").members) == 1
    assert len(join(resumed(groups, -3600), "c").members) == 2  # a clock that was set back


def test_the_saved_groups_of_users_stay_apart(groups):
    """A group belongs to its user also after a restart."""
    join(groups, "a", user=1, progress=(Progress("s", 0, 7),))
    assert len(join(resumed(groups), "c", user=2).members) == 1


def test_the_last_members_of_a_group_are_remembered_for_longer(groups):
    """A worker that joins up to ten minutes after the others have left learns how far they were; `stats` omits them."""
    join(groups, "a", progress=(Progress("s", 0, 7),), leave=True)
    assert not [*groups.living(BEGIN + REMEMBERED)]
    assert join(groups, "b", BEGIN + RESUMABLE - 1).members[0].progress == (Progress("s", 0, 7),)
    join(groups, "c", BEGIN, group="h", leave=True)
    assert len(join(groups, "d", BEGIN + RESUMABLE, group="h").members) == 1


def test_a_member_can_leave_and_return(groups):
    """A member that leaves has left at once, and is a member again when it renews."""
    join(groups, "a")
    join(groups, "a", leave=True)
    assert living(join(groups, "b")) == {"b"}
    assert living(join(groups, "a")) == {"a", "b"}


def test_a_cache_that_has_just_started_says_so(groups):
    """For three seconds members may be missing, since each of them renews once in a second."""
    assert not join(groups, "a", BEGIN + EXPIRY - 0.01).settled
    assert join(groups, "a", BEGIN + EXPIRY).settled


def test_100_000_names_take_no_work_away(groups):
    """A living member never gives way to another name: further names are refused and counted, in bounded memory."""
    join(groups, "honest")
    refused = 0
    for number in range(100_000):
        try:
            join(groups, f"name {number}")
        except RefusedRequestError:
            refused += 1
    assert refused == groups.counters["join_refused"] == 100_000 - (MAX_MEMBERS - 1)
    assert "honest" in living(join(groups, "honest"))
    assert len(join(groups, "honest").members) == MAX_MEMBERS


def test_one_that_has_left_gives_way_to_a_new_member(groups):
    """A full group takes a new member in the place of one that has left, as soon as all others know of its end."""
    for number in range(MAX_MEMBERS):
        join(groups, f"name {number}")
    epoch = join(groups, "name 5", leave=True).epoch
    with pytest.raises(RefusedRequestError):
        join(groups, "new")
    for number in {*range(MAX_MEMBERS)} - {5}:
        join(groups, f"name {number}", epoch=epoch)
    assert "new" in living(join(groups, "new"))
    assert len(join(groups, "new").members) == MAX_MEMBERS


def test_workers_that_die_in_a_loop_leave_the_first_one_known(groups):
    """Without a living member the last one that has left gives way: it has not taken over from those before it."""
    join(groups, "first", progress=(Progress("s", 0, 7),), leave=True)
    for number in range(2 * MAX_MEMBERS):
        join(groups, f"name {number}", leave=True)
    reply = join(groups, "new")
    assert last_turns_of(reply, "first") == 7
    assert len(reply.members) == MAX_MEMBERS


def test_a_stranger_is_no_member_of_the_group_of_another_user(groups):
    """The members of a group are processes of one user: another user cannot own any of its actors."""
    join(groups, "worker", user=991)
    join(groups, "stranger", user=1000)
    assert living(join(groups, "worker", user=991)) == {"worker"}


@pytest.mark.parametrize(
    ("most", "users"), [(MAX_GROUPS_OF_USER, [1]), (MAX_GROUPS, range(1000))], ids=["of a user", "in all"]
)
def test_groups_are_bounded(groups, most, users):
    """A user has at most 8 groups, and all users have 64; a group without members makes room."""
    for number in range(most):
        join(groups, "a", group=f"g{number}", user=users[number % len(users)])
    with pytest.raises(RefusedRequestError):
        join(groups, "a", group="more", user=users[0])
    assert groups.counters["join_refused"] == 1
    assert living(join(groups, "a", BEGIN + EXPIRY, group="more", user=users[0])) == {"a"}
    assert len(groups._groups) == most


def test_the_lag_of_a_member_is_what_the_cache_received_after_it():
    """`stats` shows the share of each member, and its lag in events and seconds."""
    with short_folder() as folder, cache(folder) as address, asker(address) as client:
        with probe(folder, live=True, clock=(clock := FakeClock(wall=1000.0))) as publishing:
            behind = (publishing.start, 0, 0, 0, 1_000_000_000_000)
            clock.advance(2.5)
            mark = publishing.turn(*[EXIT] * 3)
            wait_until_seen(client, mark)
        faults = {"S-1": {"errors": 3, "muted": 1}}
        client.ask(
            "join", group="g", worker="a", progress=[behind], work={"handled": 30, "twice": 2, "signatures": faults}
        )
        client.ask("join", group="g", worker="b", work={"handled": 10})
        groups = client.ask("stats")["data"]["groups"]
    [members] = [group["members"] for group in groups.values()]
    assert members["a"] == {
        "share": 0.75,
        "handled": 30,
        "handled_twice": 2,
        "handover_lost_turns": 0,
        "lag_events": 3,
        "lag_seconds": 2.5,
        "signatures": {"S-1": {"errors": 3, "muted": 1}},
    }
    assert members["b"]["share"] == 0.25


def test_the_user_of_a_connection_is_the_one_that_the_kernel_states():
    """A request cannot claim another user."""
    with short_folder() as folder, cache(folder) as address, asker(address) as client:
        client.ask("join", group="g", worker="a", user=os.geteuid() + 1)
        assert [*client.ask("stats")["data"]["groups"]] == [f"g of user {os.geteuid()}"]


@pytest.mark.parametrize(
    "fields",
    [
        {"group": "g"},
        {"group": "", "worker": "a"},
        {"group": "g" * 129, "worker": "a"},
        {"group": "g", "worker": "a" * 129},
        {"group": "g", "worker": "a", "progress": [["s", 0, 0, 0, 0]] * 4097},
        {"group": "g", "worker": "a", "progress": [["s", -1, 0, 0, 0]]},
        {"group": "g", "worker": "a", "work": {"handled": -1}},
    ],
    ids=["no worker", "no group", "long group", "long worker", "many starts", "bad turn", "bad count"],
)
def test_a_bad_join_is_refused(fields):
    """A request outside its limits is refused, and makes no group."""
    with short_folder() as folder, cache(folder) as address, asker(address) as client:
        assert client.ask("join", **fields)["error"] == "bad_request"
        assert client.ask("stats")["data"]["groups"] == {}


def test_members_that_have_left_are_counted_apart(groups):
    """The shares are those of living members."""
    join(groups, "a")
    groups.join(JoinRequest(group="g", worker="b", user=1, work=Work(handled=5)), BEGIN)
    join(groups, "a", leave=True)
    stats = group_stats(groups.living(BEGIN), [])
    assert stats["g of user 1000"] == {"epoch": FIRST + 2, "left": 1, "members": {}}


def test_the_starts_that_members_report_are_bounded():
    """No user takes more than half of the room, and who reports no further start is never refused."""
    groups = Groups(0.0)

    def report(user, worker, count):
        progress = tuple(Progress(f"{number}", 0, 1) for number in range(count))
        return groups.join(JoinRequest(group="g", worker=worker, progress=progress, user=user), 10.0)

    for user in (1, 2):
        for number in range(MAX_STARTS_OF_USER // 4096):
            report(user, f"w{number}", 4096)
        with pytest.raises(RefusedRequestError, match="no room"):
            report(user, "further", 1)
        report(user, "w0", 4096)
    with pytest.raises(RefusedRequestError, match="no room"):
        report(3, "w", 1)
    report(3, "w", 0)
    assert groups.counters["join_refused"] == 3
