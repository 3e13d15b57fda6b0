"""The metrics of a signature worker (docs/reference/metrics.md)."""

from __future__ import annotations

import time
from collections.abc import Mapping

from prometheus_client.core import Metric

from dnstrail.metrics.board import Observe
from dnstrail.metrics.families import build_info, counters, gauge, gauges
from dnstrail.protocol.listener import SILENCE
from dnstrail_signatures.worker import SignatureWorker


def observe(begin: Observe, worker: SignatureWorker) -> None:
    """Begin to observe a signature worker."""
    begin(lambda: signature_metrics(worker), lambda: unready(worker, time.monotonic()))


def unready(worker: SignatureWorker, now: float) -> str:
    """Return why the worker is not ready, or ""; a worker whose sources have all ended is ready."""
    for name, fault in worker.faults.items():
        return f"{name}: {fault}"
    if not worker.engine.signatures:
        return "no signature runs"
    if worker.heard is None:
        return "no probe was heard yet"
    live = any(turn.live and not turn.ended for turn in worker.turns.probes)
    if live and now - worker.heard > SILENCE:
        return "no probe is heard"
    if worker.awaits_facts and (worker.facts_heard is None or (live and now - worker.facts_heard > SILENCE)):
        return "no facts are heard"
    return ""


def signature_metrics(worker: SignatureWorker) -> list[Metric]:
    """Return all metrics."""
    engine, budget, coverage = worker.engine, worker.engine.budget, worker.coverage.least
    names = dict.fromkeys((signature.metadata.event_name for signature in engine.signatures), 0.0)
    by_signature: dict[str, tuple[str, Mapping[str, float]]] = {
        "dnstrail_findings": ("Findings.", engine.findings),
        "dnstrail_signature_errors": ("Exceptions of a signature.", engine.errors),
        "dnstrail_signature_seconds": ("Processor time of a signature.", budget.spent),
        "dnstrail_signature_over_budget": ("Events for which a signature exceeded its budget.", budget.exceeded),
        "dnstrail_signature_muted": ("Events that a muted signature did not receive.", budget.missed),
        "dnstrail_signature_evicted": ("Entries that a signature gave up at the bounds of its state.", engine.evicted),
        "dnstrail_signature_unavailable": ("Events given up, since no cache answered a lookup.", engine.unavailable),
        "dnstrail_signature_suppressed": ("Findings that the settings, or mutes, suppress.", engine.suppressed),
    }
    failing = names | dict.fromkeys(worker.faults, 1.0)
    lost = {"bus": worker.turns.lost_events, "findings": worker.delivery.undelivered}
    return [
        build_info("signatures"),
        counters("dnstrail_events", "Events that this worker received.", "event", worker.received),
        counters("dnstrail_lost", "Events that this worker lost, by hop.", "hop", lost),
        gauge("dnstrail_signatures", "Signatures that run.", len(engine.signatures)),
        gauges("dnstrail_signature_fault", "1: it does not run as its settings state.", "signature", failing),
        gauge("dnstrail_coverage_ratio", "Least coverage of a probe.", 1.0 if coverage is None else coverage),
        *(counters(name, text, "signature", {**names, **values}) for name, (text, values) in by_signature.items()),
    ]
