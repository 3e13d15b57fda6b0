"""The metrics of the worker of the history (docs/reference/metrics.md)."""

from __future__ import annotations

from prometheus_client.core import Metric

from dnstrail.metrics.board import Observe
from dnstrail.metrics.families import build_info, counter, counters
from dnstrail_history.worker import HistoryWorker


def observe(begin: Observe, worker: HistoryWorker) -> None:
    """Begin to observe the worker: it is unhealthy while nothing can be written."""
    begin(lambda: history_metrics(worker), lambda: worker.store.fault)


def history_metrics(worker: HistoryWorker) -> list[Metric]:
    """Return all metrics."""
    of_files = ("write_failures", "damaged", "finished", "removed")
    found = worker.store.counters
    facts = {**worker.counters, **{name: found[name] for name in ("stored", "repeated", "unwritten")}}
    return [
        build_info("history"),
        counters("dnstrail_history_facts", "Facts by outcome.", "outcome", facts),
        counters(
            "dnstrail_history_files", "What happened to files.", "outcome", {name: found[name] for name in of_files}
        ),
        counter(
            "dnstrail_history_lives_left_out",
            "Answered relations that are in no file of a year, since their segment has too many.",
            found["lives_left_out"],
        ),
        counters("dnstrail_history_lookups", "Lookups of a past time by outcome.", "outcome", worker.lookups),
        counters("dnstrail_history_lost", "Facts lost, by reason.", "reason", worker.losses),
    ]
