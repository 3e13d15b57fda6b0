"""After a change of owners a worker handles the recent events that are its own now, and counts what it cannot."""

from __future__ import annotations

from dnstrail.captured import SCHED_PROCESS_EXIT, Captured, Process
from dnstrail.protocol.batches import Batch, encode
from dnstrail.protocol.listener import Listener
from dnstrail.signature import EventSelector, Signature, SignatureMetadata
from dnstrail_signatures.handover import lost_turns
from dnstrail_signatures.ownership import Owners, Span
from dnstrail_signatures.recent import RecentBatches
from dnstrail_signatures.time_budget import TimeBudget
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

    def since(self, start, turn, actor):
        return None

    def step(self, now, work):
        self.work, before, self.before = work(), self.before, None
        return before


def worker(members, found):
    return SignatureWorker(Listener(Messages()), [Exited], None, found.append, {}, TimeBudget(), members, lambda: None)


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


def test_events_that_another_worker_handles_too_are_counted():
    """A worker that learns late of another member counts the events of the actors that have moved."""
    found, members = [], Members(**ALONE)
    running = worker(members, found)
    running.on_message(*exits(0), 0.0)
    assert len(found) == PROCESSES
    members.change(TOGETHER)
    running.on_idle(1.0)
    running.on_message(*exits(1), 1.0)
    assert len(found) < 2 * PROCESSES
    assert members.work.twice == 2 * PROCESSES - len(found)


def test_turns_that_nobody_handled_are_counted():
    """A member that was more than the buffer behind leaves turns that are lost: once, and for its successors alone."""
    recent = RecentBatches()
    recent.begin("s", 20)
    before, departed = Owners("me", {"s": TOGETHER}), {"me": Span(0), "b": Span(0, 12)}
    assert lost_turns(before, Members(**departed), recent) == 7
    assert lost_turns(Owners("me", {"s": departed}), Members(**departed), recent) == 0
    late = {"me": Span(25), "b": Span(0, 12), "c": Span(0)}
    assert lost_turns(Owners("me", {}), Members(**late), recent) == 0
