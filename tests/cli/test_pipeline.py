from __future__ import annotations

import threading

from dnstrail.captured import Captured, Process
from dnstrail.events import SCHED_PROCESS_EXIT, Event
from dnstrail.process.clock import SystemClock
from dnstrail.protocol.batches import TURN
from dnstrail_cli.pipeline import Pipeline, Plan
from live.workers import asker, cache, open_bus, probe, short_folder

EXIT = SCHED_PROCESS_EXIT, Captured(1_000_000_000, process=Process(7, "true"))


def test_events_lost_on_the_way_to_the_output_are_in_the_stats():
    """Events that arrive are shown; the command reports lost ones to the cache, whose stats contain them."""
    shown: list[Event] = []
    with (
        short_folder() as folder,
        cache(folder) as lookups,
        open_bus() as bus,
        asker(lookups) as client,
    ):
        pipeline = Pipeline(Plan(folder, "ebpf", events=(SCHED_PROCESS_EXIT,)), bus, shown.append, SystemClock())
        with probe(folder, live=True, subscribers=2) as publishing:
            publishing.lose_turn()
            publishing.turn(EXIT)
            pipeline.work(threading.Event(), lambda: client.ask("stats")["data"]["lost"]["workers"] == {TURN: 1})
    assert [event.process_id for event in shown] == [7]
