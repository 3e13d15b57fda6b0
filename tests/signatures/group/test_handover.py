"""After a change of owners a worker handles the recent events that are its own now, and counts what it cannot."""

from __future__ import annotations

import msgspec
import pytest

from builders.fake_cache import FakeCache, members
from dnstrail.captured import Captured, Process
from dnstrail.events import SCHED_PROCESS_EXIT
from dnstrail.protocol.batches import TURN, Batch, Turn, WireBatch, encode
from dnstrail.protocol.event_table import WireEvents
from dnstrail.protocol.members import RENEWAL, Work
from dnstrail.signature import EventSelector, Signature, SignatureMetadata
from dnstrail_signatures.findings import Delivery
from dnstrail_signatures.group.membership import Membership
from dnstrail_signatures.group.replays import Gap
from dnstrail_signatures.group.share import GroupShare
from dnstrail_signatures.loading.chosen import Chosen
from dnstrail_signatures.worker import SignatureWorker
from live.workers import Messages

PROCESSES = 50


class Exited(Signature):
    """Reports each process that ends."""

    metadata = SignatureMetadata("X-1", "1", "Exited", "EXITED")
    selected_events = (EventSelector(name=SCHED_PROCESS_EXIT),)

    def on_event(self, event):
        self.report(event, process=event.process_id)


class Member:
    """A worker that is a member of a group, and receives what a test says."""

    def __init__(self, *others, replays=None, **fields):
        self.found = []
        self.cache = FakeCache()
        membership = Membership(self.cache, "g", "me", 0.0)
        share = GroupShare(membership, replays=replays)
        self.worker = SignatureWorker(Messages(), Chosen.of(Exited), Delivery(self.found.append), share=share)
        self._now = 0.0
        self.change(*others, **fields)

    def change(self, *others, **fields):
        """Renew the membership, and take in the reply."""
        self._now += RENEWAL
        self.worker.on_idle(self._now)
        self.cache.replies.append(members(*others, **fields))
        self.worker.on_idle(self._now)
        self.worker.on_idle(self._now + 0.5)

    def receive(self, *turns):
        """Receive turns, each with one batch."""
        for number in turns:
            self.worker.on_message(*exits(number), self._now)
            self.worker.on_message(*ended(number), self._now)

    @property
    def work(self):
        """What the last request reports."""
        self._now += RENEWAL
        self.worker.on_idle(self._now)
        return self.cache.sent[-1]["work"]


def exits(turn, sequence=None):
    events = [Captured(1, process=Process(number)) for number in range(PROCESSES)]
    return SCHED_PROCESS_EXIT, encode(Batch("s", turn, turn if sequence is None else sequence, events))


def ended(turn):
    return TURN, encode(Turn("s", turn, {SCHED_PROCESS_EXIT: turn}, live=True, now=0))


def processes(found):
    return sorted(finding["processId"] for finding in found)


def check_whole(found, turns):
    """Check that each process of some turns was found once."""
    assert processes(found) == sorted([*range(PROCESSES)] * turns)
    assert len({finding["findingId"] for finding in found}) == len(found)


def test_a_successor_handles_what_a_departed_member_left_behind():
    """The events after the last turn of the other member are handled from the buffer, each once."""
    member = Member("b")
    member.receive(0)
    member.change("b")
    member.receive(1, 2)
    own = processes(member.found)
    assert 0 < len(own) < 3 * PROCESSES
    member.change(s=0)
    assert processes(member.found) == sorted([*range(PROCESSES)] * 2 + own[::3])
    assert len({finding["findingId"] for finding in member.found}) == len(member.found)


def test_the_rest_of_a_turn_belongs_to_the_owners_before_and_after():
    """A change of owners between two batches of a turn leaves no event of it behind, and repeats none."""
    member = Member("b")
    member.receive(0)
    member.change("b")
    member.worker.on_message(*exits(1), 1.0)
    member.change(s=0)
    member.worker.on_message(*exits(1, 2), 1.0)
    member.worker.on_message(*ended(1), 1.0)
    member.receive(2)
    assert processes([one for one in member.found if one["mark"]["turn"] > 0]) == sorted([*range(PROCESSES)] * 3)


def test_a_worker_that_gets_actors_back_handles_no_event_twice():
    """It gave actors up to a member that has handled nothing: its signatures count each event once."""
    member = Member()
    member.receive(0)
    member.change()
    member.receive(1)
    member.change(("b", {"s": 1}))
    member.change(s=0)
    check_whole(member.found, 2)


def test_events_that_another_worker_handles_too_are_counted():
    """A worker that learns late of another member counts the events of the actors that have moved."""
    member = Member()
    member.receive(0)
    member.change()
    member.receive(1)
    check_whole(member.found, 2)
    member.change("b")
    member.change("b")
    member.receive(2)
    assert len(member.found) < 3 * PROCESSES
    assert member.work["twice"] == 2 * (3 * PROCESSES - len(member.found))


@pytest.mark.parametrize("stopped", [False, True], ids=["has taken over", "was stopped meanwhile"])
def test_a_worker_that_leaves_has_taken_over_at_once(stopped):
    """What it handled in its last step is handled; others handle it again if that was cut short."""
    replays = Kept()
    replays.stopped = stopped
    member = Member(replays=replays)
    member.receive(0, 1)
    member.cache.replies.append(members())
    member.worker.on_idle(1.2)  # sends the request
    member.cache.replies.append(members())
    member.worker.share._membership.confirm()
    for _ in member.worker.share.step(1.3, Work, ()):
        pass
    member.worker.share.leave()
    assert [one[2] for one in member.cache.sent[-1]["progress"]] == [-1 if stopped else 1]


class Kept:
    """A probe that replays some turns, each with one batch; the last turn is held by the worker."""

    stopped = False

    def __init__(self, *turns):
        self.asked = []
        self._turns = turns

    def begin(self):
        """Begin anew."""

    def ask_ahead(self, gaps):
        """Ask for nothing ahead."""

    def turns(self, gap):
        self.asked.append(gap)
        yield SCHED_PROCESS_EXIT, b"damaged"
        for turn in self._turns:
            yield exits(turn)
            yield ended(turn)


@pytest.mark.parametrize(
    ("kept", "missed"), [((3, 4, 5, 6, 7), 0), ((5, 6, 7), 2), ((), 4)], ids=["all", "the last ones", "none"]
)
def test_a_successor_asks_for_the_turns_that_it_does_not_hold(kept, missed):
    """The turns between the last one of a departed member and the first one held are replayed, or counted as lost."""
    replays = Kept(*kept)
    member = Member(replays=replays, s=2)
    member.receive(7)
    assert not member.found
    member.change(s=2)
    assert replays.asked == [Gap("s", 2, 7, 2, partial=True)]
    check_whole(member.found, len([turn for turn in (3, 4, 5, 6) if turn in kept]) + 1)
    member.change()
    assert member.work["handover_lost"] == missed


def test_a_file_that_no_probe_replays_is_handled_from_the_buffer_alone():
    """The turns that are not held count as lost."""
    member = Member(s=2)
    member.receive(7)
    member.change(s=2)
    check_whole(member.found, 1)
    assert member.work["handover_lost"] == 4


def test_a_bad_event_costs_its_own_batch_alone_in_a_takeover():
    """The batches of other events are handled, and the worker goes on."""
    member = Member("b")
    member.receive(0)
    member.change("b")
    bad = WireBatch("s", 1, 1, WireEvents([], [], ["no event"]))
    member.worker.on_message(SCHED_PROCESS_EXIT, msgspec.msgpack.encode(bad), 1.0)
    member.worker.on_message(*exits(1, 2), 1.0)
    member.worker.on_message(*ended(1), 1.0)
    own = len(member.found)
    member.change(s=0)
    assert len(member.found) > own
    check_whole([one for one in member.found if one["mark"]["turn"] == 1], 1)


def test_turns_count_as_lost_for_the_successors_of_a_member_alone():
    """A worker that gains no actor in them counts nothing."""
    member = Member(("b", {}))
    member.receive(20)
    member.change("b", t=3)
    assert member.work["handover_lost"] == 0
