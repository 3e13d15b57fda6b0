"""The messages of another host are held to its key; those of this host are left alone."""

from __future__ import annotations

from collections import Counter

import pytest
from structlog.testing import capture_logs

from dnstrail.bus import RemoteHost
from dnstrail.errors import BadMessage
from dnstrail.events import NET_PACKET_DNS, SCHED_PROCESS_EXIT
from dnstrail.protocol.batches import TURN, Batch, CgroupLoss, Turn, decode, encode
from dnstrail.protocol.keyed_subscriber import (
    AHEAD,
    MOST_CGROUPS,
    MOST_TURN,
    REFUSED,
    REFUSED_MESSAGE,
    STARTS,
    WITHIN,
    KeyedSubscriber,
    own_message,
)
from dnstrail.protocol.replays import Replay, ReplayingProbes, encode_replay, replay_of
from dnstrail.protocol.turn_follower import TurnFollower
from live.workers import FakeClock, Messages, response, seen

SECOND = 1_000_000_000
ALPHA, BETA = RemoteHost("aa", "alpha"), RemoteHost("bb", "beta")
MOST = (1 << 53) - 1


class Received:
    """A keyed subscriber, and the messages that a test publishes to it."""

    def __init__(self):
        self.clock = FakeClock()
        self.messages = Messages()
        self.counters = Counter()
        self.subscriber = KeyedSubscriber(self.messages, self.clock.monotonic, self.counters)

    def of(self, remote, message, topic=NET_PACKET_DNS):
        """Return a message of a host as it is received; None if it is refused."""
        self.messages.publisher = remote
        kind = type(message)
        topic = TURN if kind is Turn else topic
        self.messages.waiting.append((topic, encode(message)))
        received = self.subscriber.receive()
        assert self.subscriber.receive() is None
        if received == REFUSED_MESSAGE:
            return None
        assert received[0] == topic
        return decode(received[1], kind)


@pytest.fixture
def received():
    return Received()


def turn(number=0, now=0, start="s", **fields):
    return Turn(start, number, {}, now=now, **{"live": True, "published": {}, **fields})


def batch(number=0, start="s", before=None, host="victim"):
    return Batch(start, number, 0, [seen(response("a.com"))], {} if before is None else before, host)


def test_another_host_has_the_name_and_the_start_of_its_key(received):
    """Whatever host, machine, boot and start another host states, its turns and batches are those of its key."""
    ended = received.of(ALPHA, turn(start="bb.s", host="beta", machine_id="m", boot_id="b"))
    assert (ended.start, ended.host, ended.machine_id, ended.boot_id) == ("aa.bb.s", "alpha", "", "")
    one = received.of(ALPHA, batch(host="beta"))
    assert (one.start, one.host, [*one.events]) == ("aa.s", "alpha", [*batch().events])


def test_messages_of_this_host_are_as_they_were_published(received):
    """A publisher of this host may state any host, start, clock and count."""
    stated = turn(start="aa.s", host="alpha", machine_id="m", boot_id="b")
    assert received.of(None, stated) == stated
    jump = turn(1, 1 << 61, start="aa.s", published={NET_PACKET_DNS: MOST})
    assert received.of(None, jump) == jump


def test_the_same_start_under_two_keys_is_two_starts(received):
    """A mark of a start of one key is not reached by a turn of the same start under another key."""
    follower = TurnFollower((NET_PACKET_DNS,))
    follower.turn(received.of(ALPHA, turn()))
    for number in range(5):
        follower.turn(received.of(BETA, turn(number)))
    assert [follower.reached((start, 3)) for start in ("aa.s", "bb.s", "s")] == [None, True, False]


@pytest.mark.parametrize("now", [5000 * SECOND, 0, -(1 << 62), 1 << 62], ids=["usual", "at 0", "ancient", "far ahead"])
def test_a_clock_runs_as_fast_as_that_of_this_host(received, now):
    """A live turn is accepted until its clock is two seconds ahead of its first turn; one that is late always is."""
    assert received.of(ALPHA, turn(0, now))
    received.clock.advance(10)
    assert received.of(ALPHA, turn(1, now + 12 * SECOND)) is not None
    assert received.of(ALPHA, turn(2, now + 13 * SECOND)) is None
    assert received.counters == {REFUSED: 1}
    assert received.of(ALPHA, turn(3, now)) is not None
    assert received.of(ALPHA, turn(4, now - 3600 * SECOND)) is not None


def test_the_clock_of_a_file_is_free(received):
    """Turns of a file are received whatever their time is."""
    assert received.of(ALPHA, turn(0, live=False))
    assert received.of(ALPHA, turn(1, 1 << 61, live=False))


def test_clocks_drift_apart(received):
    """After a day a clock may be ahead by its drift, but not by an hour."""
    received.of(ALPHA, turn())
    received.clock.advance(86_400)
    assert received.of(ALPHA, turn(1, 86_430 * SECOND))
    assert received.of(ALPHA, turn(2, 90_000 * SECOND)) is None


def test_a_first_turn_that_was_read_late_refuses_none_of_the_next(received):
    """A first turn that waited while this process stood still counts as of the last time at which nothing waited."""
    received.clock.advance(60)
    assert received.of(ALPHA, turn(0, 0))
    assert received.of(ALPHA, turn(1, 60 * SECOND))
    assert received.of(ALPHA, turn(2, 63 * SECOND)) is None


def test_a_clock_that_stays_ahead_is_accepted_again(received):
    """After a suspension of this host alone the clock of another one is ahead for good: its start begins anew."""
    received.of(ALPHA, turn())
    assert received.of(ALPHA, turn(1, 3600 * SECOND)) is None
    received.clock.advance(WITHIN - 1)
    assert received.of(ALPHA, turn(2, 3629 * SECOND)) is None
    received.clock.advance(1)
    assert received.of(ALPHA, turn(3, 3630 * SECOND))
    assert received.of(ALPHA, turn(4, 3630 * SECOND + round((AHEAD + 2) * SECOND))) is None


@pytest.mark.parametrize(
    "jump",
    [
        turn(1, published={NET_PACKET_DNS: MOST}),
        turn(1, published={SCHED_PROCESS_EXIT: MOST, NET_PACKET_DNS: 5}),
        turn(MOST),
        batch(1, before={NET_PACKET_DNS: MOST}),
        batch(MOST),
    ],
    ids=["published", "published of another topic", "turn", "before", "turn of a batch"],
)
def test_no_count_jumps(received, jump):
    """A message whose counts no probe can have reached is refused, and spoils no count of losses."""
    follower = TurnFollower((NET_PACKET_DNS, SCHED_PROCESS_EXIT))
    follower.turn(received.of(ALPHA, turn(published={NET_PACKET_DNS: 5})))
    assert received.of(ALPHA, jump) is None
    received.clock.advance(3600)
    follower.turn(received.of(ALPHA, turn(100_000, published={NET_PACKET_DNS: 10_000_000})))
    assert follower.lost == {NET_PACKET_DNS: 9_999_995, TURN: 99_999}


@pytest.mark.parametrize(
    "first", [turn(1, now=SECOND, since=1, published={NET_PACKET_DNS: MOST}), turn(MOST, now=9, since=9)]
)
def test_no_count_is_too_great_for_the_age_of_its_start(received, first):
    """A start states no more events and turns than a probe can count in the age that it states."""
    assert received.of(ALPHA, first) is None
    assert received.of(ALPHA, turn(1, start="t", now=SECOND, since=1, published={NET_PACKET_DNS: 5_000})) is not None


def test_a_host_that_does_not_count_its_events_loses_none(received):
    """Sequences alone count nothing as lost: they may jump as well."""
    follower = TurnFollower((NET_PACKET_DNS,))
    follower.turn(received.of(ALPHA, turn(published=None)))
    follower.batch(NET_PACKET_DNS, received.of(ALPHA, Batch("s", 1, MOST, [])))
    follower.turn(received.of(ALPHA, Turn("s", 1, {NET_PACKET_DNS: MOST}, live=True, now=0)))
    assert follower.lost.total() == 0
    assert follower.reached(("aa.s", 1)) is False


def test_a_host_begins_few_starts(received):
    """Beyond some starts a new one is refused for a while. Known ones go on, and another host may begin one."""
    for number in range(STARTS):
        assert received.of(ALPHA, turn(start=f"s{number}"))
    assert received.of(ALPHA, turn(start="more")) is None
    assert received.of(ALPHA, turn(1, start="s0"))
    assert received.of(BETA, turn(start="more"))
    received.clock.advance(WITHIN)
    assert received.of(ALPHA, turn(start="more"))


def test_a_long_start_and_a_long_turn_are_refused(received):
    """The id of a start and a turn have bounds: both are remembered."""
    assert received.of(ALPHA, turn(start="s" * 126)) is None
    assert received.of(ALPHA, turn(start="s" * 125))
    assert received.of(ALPHA, turn(1, start="s" * 125, counters={"x" * MOST_TURN: 1})) is None
    assert received.of(ALPHA, turn(1, lost_by_cgroup=(CgroupLoss(1, 1),) * MOST_CGROUPS))
    assert received.of(ALPHA, turn(2, lost_by_cgroup=(CgroupLoss(1, 1),) * (MOST_CGROUPS + 1))) is None


def test_a_refusal_is_logged_once_in_a_while(received):
    """The log names the host and the reason, once for many refusals; each is counted."""
    received.of(ALPHA, turn())
    with capture_logs() as logs:
        for number in range(1, 100):
            received.of(ALPHA, turn(number, 1 << 60))
    assert [(line["event"], line["host"], line["reason"]) for line in logs] == [
        ("remote_refused", "alpha", "its clock is ahead")
    ]
    assert received.counters == {REFUSED: 99}


def test_a_new_connection_has_a_first_turn_of_its_own(received):
    """After the subscriber connects anew to a host the clock of its starts counts from their next turns."""
    received.of(ALPHA, turn())
    received.subscriber.reopen(ALPHA.own("other"))
    assert received.of(ALPHA, turn(1, 3600 * SECOND))


@pytest.mark.parametrize(("topic", "body"), [(TURN, b"\xc1"), (NET_PACKET_DNS, b"\x90"), (NET_PACKET_DNS, b"")])
def test_a_damaged_message_is_refused(received, topic, body):
    """A damaged message of another host is refused and counted; one of this host is left to its subscriber."""
    received.messages.publisher = ALPHA
    received.messages.waiting.append((topic, body))
    assert (received.subscriber.receive(), received.counters) == (REFUSED_MESSAGE, {REFUSED: 1})
    received.messages.publisher = None
    received.messages.waiting.append((topic, body))
    assert received.subscriber.receive() == (topic, body)


class Source:
    """A requester of replays at a host."""

    def __init__(self, remote):
        self.remote = remote


def test_a_probe_is_asked_for_its_own_starts_alone():
    """Each other host may replay the starts of its key, and the probes of this host all other starts."""
    local, alpha, beta = (Source(remote) for remote in (None, ALPHA, BETA))
    probes = ReplayingProbes([local, alpha, beta])
    assert [probes.of(start) for start in ("aa.s", "cc.s", "s")] == [[alpha], [local], [local]]


def test_another_host_replays_its_own_messages_alone():
    """A replayed message has the start and the host of the key of its source; one of another start is refused."""
    messages = [(TURN, encode(turn(host="beta", start="aa.s"))), (NET_PACKET_DNS, encode(batch(start="aa.s")))]
    reply = encode_replay(Replay(messages, 1))
    own = replay_of(Source(ALPHA), "aa.s", reply)
    assert [decode(body, Turn if topic == TURN else Batch).host for topic, body in own.messages] == ["alpha"] * 2
    assert replay_of(Source(None), "aa.s", reply).messages == messages
    with pytest.raises(BadMessage, match=r"a message of the start bb\.aa\.s"):
        replay_of(Source(BETA), "aa.s", reply)
    with pytest.raises(BadMessage):
        own_message(ALPHA, NET_PACKET_DNS, b"")
