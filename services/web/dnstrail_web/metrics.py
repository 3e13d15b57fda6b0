"""The metrics of the worker of the page (docs/reference/metrics.md)."""

from __future__ import annotations

from prometheus_client.core import Metric

from dnstrail.metrics.board import Observe
from dnstrail.metrics.families import build_info, counter, counters, gauge
from dnstrail_web.feed import Feed
from dnstrail_web.worker import WebWorker


def observe(begin: Observe, worker: WebWorker, feed: Feed) -> None:
    """Begin to observe the worker."""
    begin(lambda: web_metrics(worker, feed), lambda: "")


def web_metrics(worker: WebWorker, feed: Feed) -> list[Metric]:
    """Return all metrics."""
    return [
        build_info("web"),
        counters("dnstrail_web_facts", "Facts and findings by outcome.", "outcome", worker.counters),
        counters("dnstrail_web_lost", "Facts lost on the bus, by event.", "event", worker.losses),
        gauge("dnstrail_web_readers", "Readers of the live feed.", feed.readers),
        counter("dnstrail_web_readers_lost", "Readers of the live feed that were too slow.", feed.lost_readers),
    ]
