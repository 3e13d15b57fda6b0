"""The metrics of the worker of findings (docs/reference/metrics.md)."""

from __future__ import annotations

from prometheus_client.core import Metric

from dnstrail.metrics.board import Observe
from dnstrail.metrics.families import build_info, counter, counters, gauges
from dnstrail_findings.worker import FindingsWorker


def observe(begin: Observe, worker: FindingsWorker) -> None:
    """Begin to observe the worker."""
    begin(lambda: findings_metrics(worker), lambda: "")


def findings_metrics(worker: FindingsWorker) -> list[Metric]:
    """Return all metrics."""
    outputs = worker.outputs
    written = {output.name: float(output.counters["written"]) for output in outputs}
    failures = {output.name: float(output.counters["failures"]) for output in outputs}
    return [
        build_info("findings"),
        counters("dnstrail_findings_handled", "Findings by outcome.", "outcome", worker.counters),
        counter(
            "dnstrail_findings_unexplained", "Findings without a lookup.", worker.explainer.counters["unexplained"]
        ),
        counters("dnstrail_output_written", "Findings that an output wrote.", "output", written),
        counters("dnstrail_output_failures", "Failed attempts to write.", "output", failures),
        counters("dnstrail_output_lost", "Findings lost.", "output", {each.name: each.lost for each in outputs}),
        gauges(
            "dnstrail_output_waiting", "Findings that wait.", "output", {each.name: each.waiting for each in outputs}
        ),
    ]
