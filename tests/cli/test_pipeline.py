"""The stream of events that the command shows: what it could not show is counted."""

from __future__ import annotations

import threading

from dnstrail.captured import Captured, Process
from dnstrail.events import SCHED_PROCESS_EXIT
from dnstrail.protocol.batches import TURN
from dnstrail_cli.pipeline import Pipeline, Plan
from live.workers import asker, cache, open_bus, probe, short_folder

EXIT = SCHED_PROCESS_EXIT, Captured(1_000_000_000, process=Process(7, "true"))


def test_what_was_not_shown_is_in_the_stats():
    """Events that came are shown; what was lost on the way to this process is told to the cache, and in its stats."""
    shown: list[dict] = []
    with (
        short_folder() as folder,
        cache(folder) as lookups,
        open_bus() as bus,
        asker(lookups) as client,
    ):
        pipeline = Pipeline(Plan(folder, "ebpf", events=(SCHED_PROCESS_EXIT,)), bus, shown.append)
        with probe(folder, live=True, subscribers=2) as publishing:
            publishing.lose_turn()
            publishing.turn(EXIT)
            pipeline.work(threading.Event(), lambda: client.ask("stats")["data"]["lost"]["workers"] == {TURN: 1})
    assert [event["processId"] for event in shown] == [7]
