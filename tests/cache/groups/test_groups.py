"""The groups of signature workers at the cache: memberships expire, are bounded, and belong to one user.

Tests of dnstrail_cache.groups.group.
"""

from __future__ import annotations

import os

import pytest

from dnstrail.captured import Captured, Process
from dnstrail.events import SCHED_PROCESS_EXIT
from dnstrail.protocol.lookups import (
    MAX_MESSAGE,
    JoinRequest,
    RefusedRequestError,
    decode_request,
    encode_data,
    encode_request,
)
from dnstrail.protocol.members import EXPIRY, FORM, Progress, Work
from dnstrail_cache.groups.groups import (
    MAX_GROUPS,
    MAX_GROUPS_OF_USER,
    MAX_MEMBERS,
    MAX_STARTS_OF_USER,
    RESUMABLE,
    SHOWN,
    Groups,
    SavedGroup,
    group_stats,
)
from live.workers import FakeClock, asker, cache, probe, short_folder, wait_until_seen

BEGIN = 100.0
FIRST = 100_000_000  # the epoch of a group that has just begun
EXIT = SCHED_PROCESS_EXIT, Captured(1, process=Process(1))


def join(groups, worker, now=BEGIN, *, cache=None, **fields):
    """Join as a worker that knows the run of the cache, unless another one is given."""
    cache = groups._name if cache is None else cache
    request = JoinRequest(**{"group": "g", "user": 1000, "form": FORM, "worker": worker, "cache": cache, **fields})
    return groups.join(request, now)


def at(*lasts, first=0):
    """Return progress: the last turns of the starts s, t, ..."""
    return tuple(Progress(start, first, last) for start, last in zip("stu", lasts, strict=False))


def living(members):
    return {member.worker for member in members.members}


@pytest.fixture
def groups():
    return Groups(BEGIN)


def test_the_members_of_a_group_are_reported(groups):
    """A reply contains all members of the group, and counts their changes."""
    join(groups, "a", progress=at(7))
    reply = join(groups, "b")
    assert living(reply) == {"a", "b"}
    assert (reply.epoch, join(groups, "b").epoch) == (FIRST + 2, FIRST + 2)


def test_a_worker_learns_which_members_handle_a_start_from_a_later_turn(groups):
    """It learns so of turns that it has not reported yet, and of members that have not received the start."""
    join(groups, "new", epoch=FIRST, progress=at(8, first=10))
    join(groups, "none", epoch=FIRST)
    ahead = [
        {one.worker: one.ahead for one in join(groups, "a", epoch=FIRST, progress=at(last)).members} for last in (9, 10)
    ]
    assert ahead == [{"new": {"s": 10}, "none": {"s": None}, "a": {}}, {"new": {}, "none": {"s": None}, "a": {}}]


def test_a_member_counts_from_the_turns_after_those_that_it_first_reports(groups):
    """A worker that returns was not there for the others until then, whatever its first turn was."""
    join(groups, "a", progress=at(200))
    ahead = {one.worker: one.ahead for one in join(groups, "b", progress=at(150)).members}
    assert ahead["a"] == {"s": 201}


def test_a_membership_expires_after_three_seconds(groups):
    """The others learn how far a member had come that does not renew."""
    join(groups, "a", progress=at(7))
    assert living(join(groups, "b", BEGIN + EXPIRY - 0.01)) == {"a", "b"}
    reply = join(groups, "b", BEGIN + EXPIRY)
    assert living(reply) == {"b"}
    assert reply.behind == {"s": 7}
    assert groups.counters["members_expired"] == 1
    assert join(groups, "b", BEGIN + EXPIRY, epoch=reply.epoch).behind == {}


def test_what_is_left_behind_is_remembered_until_the_others_know_of_it(groups):
    """A takeover may take long: if its worker dies, the next one has to learn of both."""
    join(groups, "a", progress=at(100))
    for second in range(1, 60):
        join(groups, "b", BEGIN + second, progress=at(100 + second))
    assert join(groups, "c", BEGIN + 70).behind == {"s": 100}


def test_the_last_members_are_remembered_until_the_next_one_has_taken_over(groups):
    """A worker asks again for the members once it receives a start: what was left behind long ago is still there."""
    join(groups, "a", progress=at(7), leave=True)
    reply = join(groups, "b", BEGIN + RESUMABLE - 1)
    assert join(groups, "b", BEGIN + RESUMABLE).behind == reply.behind == {"s": 7}
    assert join(groups, "b", BEGIN + RESUMABLE, epoch=reply.epoch).behind == {}
    join(groups, "c", BEGIN, group="h", progress=at(7), leave=True)
    assert join(groups, "d", BEGIN + RESUMABLE, group="h").behind == {}


def test_members_that_die_one_after_the_other_take_nothing_over(groups):
    """What a member left behind after its last turn, another that died before it knew has not handled either."""
    join(groups, "a", progress=at(100))
    epoch = join(groups, "b", BEGIN + 0.9, progress=at(90)).epoch
    join(groups, "b", BEGIN + 1.9, progress=at(190), epoch=epoch)
    assert join(groups, "new", BEGIN + EXPIRY).behind == {"s": 100}
    assert join(groups, "new", BEGIN + EXPIRY + 1.9).behind == {"s": 100}


def test_a_member_that_knew_of_an_end_has_taken_over(groups):
    """The turns of a member count to its last one if it had taken in that the other left."""
    join(groups, "a", progress=at(100))
    epoch = join(groups, "b", BEGIN + EXPIRY).epoch
    join(groups, "b", BEGIN + EXPIRY + 1, progress=at(400), epoch=epoch)
    assert join(groups, "c", BEGIN + 2 * EXPIRY + 1).behind == {"s": 400}


def test_a_member_that_began_in_the_middle_may_not_know_of_turns_before(groups):
    """If one that has left had not received the start, nobody may have handled the turns before the first one."""
    join(groups, "a", progress=at(100))
    join(groups, "b", progress=(Progress("t", 7, 9), Progress("u", 0, 9)))
    assert join(groups, "c", BEGIN + EXPIRY).behind == {"s": 100, "t": -1, "u": 9}


@pytest.mark.parametrize(
    "fields",
    [{}, {"epoch": FIRST + 99}, {"epoch": FIRST + 2, "cache": "before"}],
    ids=["no epoch", "an epoch to come", "an earlier run"],
)
def test_an_epoch_that_the_cache_has_not_reported_is_not_known(groups, fields):
    """A member that states an epoch from before a restart counts as one that knows nothing."""
    join(groups, "a", progress=at(100), leave=True)
    join(groups, "b", progress=at(400), **fields)
    assert join(groups, "c", BEGIN + EXPIRY).behind == {"s": 100}


def test_a_member_that_returns_takes_over_from_where_it_was(groups):
    """The others gave it nothing until it reported these turns, even if they have taken over what it had left."""
    join(groups, "a", progress=at(100))
    epoch = join(groups, "b", BEGIN + EXPIRY).epoch
    join(groups, "b", BEGIN + EXPIRY, epoch=epoch)
    assert join(groups, "a", BEGIN + EXPIRY, progress=at(120)).behind == {"s": 120}
    assert join(groups, "a", BEGIN + EXPIRY, progress=at(130)).behind == {}


def resumed(groups, passed=0.0, at=BEGIN):
    """Return the groups of a cache that goes on from these, saved at a wall time of 1,000 s, some seconds later."""
    new = Groups(at)
    new.resume(groups.saved(BEGIN, 1000.0), at, 1000.0 + passed)
    return new


def test_the_members_of_a_saved_group_have_left_together(groups):
    """A cache that goes on counts no turn of the members that another one has not handled, whenever it was saved."""
    join(groups, "a", progress=at(100))
    join(groups, "b", progress=at(120))
    assert join(resumed(groups), "c").behind == {"s": 100}
    join(groups, "a", progress=at(110), leave=True)
    assert join(resumed(groups), "c").behind == {"s": 110}  # b knew nothing of the end of a
    join(groups, "b", progress=at(120), epoch=FIRST + 3)
    reply = join(resumed(groups), "c")
    assert (reply.behind, reply.settled, living(reply)) == ({"s": 120}, False, {"c"})


def test_a_group_of_an_earlier_version_goes_on(groups):
    """Its members were saved one by one: all of them have left."""
    members = {"a": at(7, 8), "b": (Progress("s", None, 5),)}
    groups.resume([SavedGroup(1000, "g", 1000.0, members)], BEGIN, 1000.0)
    assert join(groups, "c").behind == {"s": 5, "t": 8}


def test_a_group_without_members_is_saved_as_it_was_left(groups):
    """A group whose members have left is kept for ten minutes of wall time in all."""
    join(groups, "a", BEGIN - RESUMABLE + 10, progress=at(7), leave=True)
    assert [join(resumed(groups, passed), "c").behind for passed in (9, 11)] == [{"s": 7}, {}]
    assert join(resumed(groups, -3600), "c").behind == {"s": 7}  # a clock that was set back


def test_the_saved_groups_of_users_stay_apart(groups):
    """A group belongs to its user also after a restart."""
    join(groups, "a", user=1, progress=at(7))
    assert join(resumed(groups), "c", user=2).behind == {}


def test_a_group_whose_members_have_left_is_shown_for_a_while(groups):
    """`stats` omits a group whose last member left 20 seconds ago."""
    join(groups, "a", progress=at(7), leave=True)
    assert [len([*groups.living(BEGIN + passed)]) for passed in (SHOWN - 1, SHOWN)] == [1, 0]


def test_a_worker_of_an_earlier_version_learns_that_it_is_alone(groups):
    """It then handles all events, and the other members lose nothing by it."""
    join(groups, "a")
    old = {"epoch": 3, "progress": [["s", 0, 7, 0, 0]], "dropped": ["t"], "cache": groups._name, "version": 9}
    body = encode_request("join", group="g", worker="old", **old)
    reply = groups.join(decode_request(body), BEGIN)
    assert (reply.settled, reply.members, reply.behind) == (True, (), None)
    assert living(join(groups, "a")) == {"a"}


def test_a_worker_of_an_earlier_version_is_followed_by_the_next_one(groups):
    """What it left behind, the next worker handles; one that was there all the time has handled it itself."""
    join(groups, "old", form=1, progress=at(7))
    assert join(groups, "new", cache="").behind == {}
    join(groups, "new", progress=at(9, first=8), epoch=FIRST + 2, leave=True)
    join(groups, "old", BEGIN + 1, form=1, progress=at(12))
    assert join(groups, "next", BEGIN + 1 + EXPIRY).behind == {"s": 12}


def test_a_full_group_stays_below_the_limit_of_a_message(groups):
    """64 members of 1,024 starts, or two of 4,096 with the longest names: each request and reply fits in a message."""
    sizes = []
    for members, names in ((MAX_MEMBERS, [f"{n:016x}" for n in range(1024)]), (2, [f"{n:0128}" for n in range(4096)])):
        progress = [(name, 1 << 32, 1 << 32, 1 << 40, 1 << 60) for name in names]
        for number in [*range(members)] * 2:
            body = encode_request("join", group=f"g{members}", worker=f"w{number}", form=FORM, progress=progress)
            sizes += [len(body), len(encode_data(groups.join(decode_request(body), BEGIN)))]
    assert max(sizes) < MAX_MESSAGE


def test_members_that_do_not_fit_in_a_reply_are_left_out(groups):
    """The worker then handles their part of its starts as well; nothing is lost."""
    for number in range(MAX_MEMBERS):
        join(groups, f"w{number}")
    progress = tuple(Progress(f"{number:0128}", 0, 9) for number in range(4096))
    assert 1 <= len(join(groups, "w9", progress=progress).members) < MAX_MEMBERS


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


def test_workers_that_die_in_a_loop_leave_the_first_one_known(groups):
    """However many leave without handling anything, what the first one left behind stays known."""
    join(groups, "first", progress=at(7), leave=True)
    for number in range(2 * MAX_MEMBERS):
        join(groups, f"name {number}", leave=True)
    assert join(groups, "new").behind == {"s": 7}


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
        work = {"handled": 30, "twice": 2, "signatures": faults}
        client.ask("join", group="g", worker="a", form=FORM, progress=[behind], work=work)
        client.ask("join", group="g", worker="b", form=FORM, work={"handled": 10})
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
        client.ask("join", group="g", worker="a", form=FORM, user=os.geteuid() + 1)
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
    join(groups, "b", user=1, work=Work(handled=5))
    join(groups, "a", leave=True)
    stats = group_stats(groups.living(BEGIN), [])
    assert stats["g of user 1000"] == {"epoch": FIRST + 2, "left": 1, "members": {}}


def test_the_starts_that_members_report_are_bounded():
    """No user takes more than half of the room, and who reports no further start is never refused."""
    groups = Groups(0.0)

    def report(user, worker, count):
        progress = tuple(Progress(f"{number}", 0, 1) for number in range(count))
        return groups.join(JoinRequest(group="g", worker=worker, progress=progress, user=user, form=FORM), 10.0)

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
