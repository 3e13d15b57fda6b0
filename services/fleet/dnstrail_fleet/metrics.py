"""The metrics of a sender and of a store (docs/reference/metrics.md)."""

from __future__ import annotations

from prometheus_client.core import Metric

from dnstrail.metrics.board import Observe
from dnstrail.metrics.families import build_info, counters, gauge
from dnstrail_fleet.sender.worker import FleetSender
from dnstrail_fleet.store.worker import StoreWorker


def observe(begin: Observe, worker: FleetSender | StoreWorker) -> None:
    """Begin to observe a sender or a store: it is unhealthy while the engine, or a disk, fails."""
    begin(
        lambda: sender_metrics(worker) if isinstance(worker, FleetSender) else store_metrics(worker),
        lambda: worker.fault,
    )


def sender_metrics(sender: FleetSender) -> list[Metric]:
    """Return all metrics of a sender."""
    return [
        build_info("fleet-sender"),
        counters("dnstrail_fleet_sender", "Transactions read, and rows sent, by outcome.", "outcome", sender.counters),
        gauge("dnstrail_fleet_waiting", "Rows that wait to be sent.", sender.waiting),
        gauge("dnstrail_fleet_behind", "Segments of the history that the sender has not begun to read.", sender.behind),
    ]


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
