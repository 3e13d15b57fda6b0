"""After a change of owners a worker handles the recent events that are its own now, and counts what it cannot."""

from __future__ import annotations

import pytest

from dnstrail.captured import Captured, Process
from dnstrail.events import SCHED_PROCESS_EXIT
from dnstrail.protocol.batches import TURN, Batch, Turn, encode
from dnstrail.signature import EventSelector, Signature, SignatureMetadata
from dnstrail_signatures.findings import Delivery
from dnstrail_signatures.group.missed_turns import Gap, gaps
from dnstrail_signatures.group.ownership import Owners, Span
from dnstrail_signatures.group.recent import RecentBatches
from dnstrail_signatures.group.share import GroupShare
from dnstrail_signatures.loading.chosen import Chosen
from dnstrail_signatures.worker import SignatureWorker
from live.workers import Messages

PROCESSES = 50
ALONE, TOGETHER = {"me": Span(0)}, {"me": Span(0), "b": Span(0)}


class Exited(Signature):
    """Reports each process that ends."""

    metadata = SignatureMetadata("X-1", "1", "Exited", "EXITED")
    selected_events = (EventSelector(name=SCHED_PROCESS_EXIT),)

    def on_event(self, event):
        self.report(event, process=event.process_id)


class Members:
    """A membership whose owners a test changes."""

    waits, worker = False, "me"

    def __init__(self, **spans):
        self.change(spans)
        self.before = None

    def change(self, spans):
        self.before, self.owners = getattr(self, "owners", None), Owners("me", {"s": spans})

    def receive(self, start, turn, now):
        pass

    def renew(self, now):
        pass

    def first_received(self, start):
        return 0

    def had_members(self, start):
        return True

    def since(self, start, turn, actor):
        return None

    def step(self, now, work):
        self.work, before, self.before = work(), self.before, None
        return before


def worker(members, found, replays=None):
    share = GroupShare(members, replays=replays)
    return SignatureWorker(Messages(), Chosen.of(Exited), Delivery(found.append), share=share)


def exits(turn):
    events = [Captured(1, process=Process(number)) for number in range(PROCESSES)]
    return SCHED_PROCESS_EXIT, encode(Batch("s", turn, turn, events))


def processes(found):
    return sorted(finding["processId"] for finding in found)


def test_a_successor_handles_what_a_departed_member_left_behind():
    """The events after the last turn of the other member are handled from the buffer, each once."""
    found, members = [], Members(**TOGETHER)
    running = worker(members, found)
    for turn in range(3):
        running.on_message(*exits(turn), 0.0)
    own = processes(found)
    assert 0 < len(own) < 3 * PROCESSES
    members.change({"me": Span(0), "b": Span(0, 0)})
    running.on_idle(1.0)
    assert processes(found) == sorted([*range(PROCESSES)] * 2 + own[::3])
    assert len({finding["findingId"] for finding in found}) == len(found)


def test_an_event_that_a_worker_handles_again_has_findings_of_the_same_ids():
    """A worker that gave actors up, and gets them back from a member that handled nothing, repeats its findings."""
    found, members = [], Members(**ALONE)
    running = worker(members, found)
    running.on_message(*exits(0), 0.0)
    for spans in (TOGETHER, {"me": Span(0), "b": Span(0, -1)}):
        members.change(spans)
        running.on_idle(1.0)
    ids = [finding["findingId"] for finding in found]
    assert PROCESSES < len(ids) < 2 * PROCESSES
    assert len({*ids}) == PROCESSES


def test_events_that_another_worker_handles_too_are_counted():
    """A worker that learns late of another member counts the events of the actors that have moved."""
    found, members = [], Members(**ALONE)
    running = worker(members, found)
    running.on_message(*exits(0), 0.0)
    assert len(found) == PROCESSES
    members.change(TOGETHER)
    running.on_idle(1.0)
    running.on_message(*exits(1), 1.0)
    running.on_idle(1.0)
    assert len(found) < 2 * PROCESSES
    assert members.work.twice == 2 * PROCESSES - len(found)


def lost(before, members, recent):
    """Return the number of turns that a change of owners leaves unhandled."""
    return sum(gap.turns for gap in gaps(before, members, recent))


def test_turns_that_nobody_handled_are_counted():
    """A member that was more than the buffer behind leaves turns that are lost: once, and for its successors alone."""
    recent = RecentBatches()
    recent.begin("s", 20)
    before, departed = Owners("me", {"s": TOGETHER}), {"me": Span(0), "b": Span(0, 12)}
    assert lost(before, Members(**departed), recent) == 7
    assert lost(Owners("me", {"s": departed}), Members(**departed), recent) == 0
    late = {"me": Span(25), "b": Span(0, 12), "c": Span(0)}
    assert lost(Owners("me", {}), Members(**late), recent) == 0


class Kept:
    """A probe that replays some turns, each with one batch; the last turn is held by the worker."""

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
            yield TURN, encode(Turn("s", turn, {}, live=True, now=0))


@pytest.mark.parametrize(
    ("kept", "missed"), [((3, 4, 5, 6, 7), 0), ((5, 6, 7), 2), ((), 4)], ids=["all", "the last ones", "none"]
)
def test_a_successor_asks_for_the_turns_that_it_does_not_hold(kept, missed):
    """The turns between the last one of a departed member and the first one held are replayed, or counted as lost."""
    found, members, replays = [], Members(b=Span(0)), Kept(*kept)
    running = worker(members, found, replays)
    running.on_message(*exits(7), 0.0)
    assert not found
    members.change({"b": Span(0, 2)})
    running.on_idle(1.0)
    turns = [turn for turn in (3, 4, 5, 6) if turn in kept]
    assert replays.asked == [Gap("s", 2, 7)]
    assert processes(found) == sorted([*range(PROCESSES)] * (len(turns) + 1))
    assert len({finding["findingId"] for finding in found}) == len(found)
    running.on_idle(2.0)
    assert members.work.handover_lost == missed
