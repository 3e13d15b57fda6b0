"""The metrics of a sender, of a store, and of a worker of signatures (docs/reference/metrics.md)."""

from __future__ import annotations

from functools import singledispatch

from prometheus_client.core import Metric

from dnstrail.metrics.board import Observe
from dnstrail.metrics.families import build_info, counters, gauge
from dnstrail_fleet.sender.worker import FleetSender
from dnstrail_fleet.signatures.worker import FleetSignatureWorker
from dnstrail_fleet.store.worker import StoreWorker


def observe(begin: Observe, worker: FleetSender | StoreWorker | FleetSignatureWorker) -> None:
    """Begin to observe a worker: it is unhealthy while the engine, a disk, the store or the receiver fails."""
    begin(lambda: _metrics(worker), lambda: worker.fault)


@singledispatch
def _metrics(_worker: object) -> list[Metric]:
    raise AssertionError


@_metrics.register
def sender_metrics(sender: FleetSender) -> list[Metric]:
    """Return all metrics of a sender."""
    return [
        build_info("fleet-sender"),
        counters("dnstrail_fleet_sender", "Transactions read, and rows sent, by outcome.", "outcome", sender.counters),
        gauge("dnstrail_fleet_waiting", "Rows that wait to be sent.", sender.waiting),
        gauge("dnstrail_fleet_behind", "Segments of the history that the sender has not begun to read.", sender.behind),
    ]


@_metrics.register
def signature_metrics(worker: FleetSignatureWorker) -> list[Metric]:
    """Return all metrics of a worker of signatures."""
    return [
        build_info("fleet-signatures"),
        counters("dnstrail_fleet_signatures", "Entries and events by outcome.", "outcome", worker.counters),
        gauge("dnstrail_fleet_lag", "Entries that wait in the engine.", worker.waiting),
    ]


@_metrics.register
def store_metrics(worker: StoreWorker) -> list[Metric]:
    """Return all metrics of a store."""
    found = {**worker.counters, **worker.store.counters}
    return [
        build_info("fleet-store"),
        counters("dnstrail_fleet_store", "Entries and rows by outcome.", "outcome", found),
        gauge(
            "dnstrail_fleet_lag", "Entries that wait in the engine.", sum(one.waiting for one in worker.lag.values())
        ),
        counters(
            "dnstrail_fleet_trimmed",
            "Entries that the engine trimmed before anybody read them.",
            "host",
            {host: one.trimmed for host, one in worker.lag.items()},
        ),
    ]
