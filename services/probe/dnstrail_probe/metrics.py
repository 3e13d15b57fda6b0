"""The metrics of the probe (docs/reference/metrics.md)."""

from __future__ import annotations

from collections import Counter

from prometheus_client.core import Metric

from dnstrail.metrics.board import Observe
from dnstrail.metrics.families import build_info, counter, counters
from dnstrail.protocol.batch_publisher import BatchPublisher
from dnstrail_probe.source import KERNEL, PROBE, Source


def observe(begin: Observe, source: Source, batches: BatchPublisher) -> None:
    """Begin to observe a probe. It is ready once its first turn has ended."""
    begin(
        lambda: probe_metrics(source, batches),
        lambda: "" if batches.turn else "the probe waits for its subscribers",
    )


def probe_metrics(source: Source, batches: BatchPublisher) -> list[Metric]:
    """Return all metrics."""
    lost = Counter({KERNEL: 0, PROBE: batches.refused})
    for reason, hop in source.losses.items():
        lost[hop] += source.counters[reason]
    return [
        build_info("probe"),
        counters("dnstrail_events", "Events that the probe published.", "event", batches.published),
        counters("dnstrail_lost", "Events that this worker lost, by hop.", "hop", lost),
        counters("dnstrail_source", "Counters of the source.", "counter", source.counters),
        counter("dnstrail_turns", "Turns that the probe ended.", batches.turn),
    ]
