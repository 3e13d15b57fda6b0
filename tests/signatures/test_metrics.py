"""The metrics of a signature worker."""

from __future__ import annotations

import pytest

from dnstrail.captured import Captured
from dnstrail.events import DNS_TRANSACTION, SCHED_PROCESS_EXIT
from dnstrail.protocol.batches import TURN, Batch, Turn, encode
from dnstrail.protocol.facts import FactFeed
from dnstrail.protocol.listener import SILENCE
from dnstrail.signature import EventSelector, Signature, SignatureMetadata
from dnstrail_signatures.findings import Delivery
from dnstrail_signatures.loading.chosen import Chosen
from dnstrail_signatures.metrics import signature_metrics, unready
from dnstrail_signatures.worker import SignatureWorker
from live.workers import Messages, open_bus, short_folder


class Reporter(Signature):
    """Reports each process that ends, and fails at every second one."""

    metadata = SignatureMetadata("R-1", "1", "Reporter", "REPORTED")
    selected_events = (EventSelector("tracee", SCHED_PROCESS_EXIT),)

    def on_event(self, event):
        self.report(event)
        if event.captured.timestamp % 2:
            raise ValueError


@pytest.fixture
def worker():
    return worker_of(Reporter)


def worker_of(*classes):
    return SignatureWorker(Messages(), Chosen.of(*classes), Delivery(lambda _: None))


def values(worker):
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in signature_metrics(worker)
        for sample in family.samples
    }


def hear(worker, number, *stamps, live=True, lost=0):
    batch = Batch("s", number, number + lost, [Captured(stamp) for stamp in stamps])
    worker.on_message(SCHED_PROCESS_EXIT, encode(batch), 5.0)
    worker.on_message(TURN, encode(Turn("s", number, {SCHED_PROCESS_EXIT: number + lost}, live, 5)), 5.0)


def test_findings_errors_and_times_count_by_signature(worker):
    """Each signature has series from the start, which count its findings, its errors and its processor time."""
    assert values(worker)["dnstrail_findings_total", "REPORTED"] == 0
    hear(worker, 0, 2, 3)
    found = values(worker)
    assert found["dnstrail_findings_total", "REPORTED"] == 2
    assert found["dnstrail_signature_errors_total", "REPORTED"] == 1
    assert found["dnstrail_signature_seconds_total", "REPORTED"] > 0
    assert found["dnstrail_events_total", SCHED_PROCESS_EXIT] == 2


def test_losses_lower_the_coverage(worker):
    """Events that the bus lost are counted, and the coverage falls."""
    hear(worker, 0, 2)
    assert values(worker)["dnstrail_coverage_ratio",] == 1
    hear(worker, 1, 2, lost=1)
    found = values(worker)
    assert found["dnstrail_lost_total", "bus"] == 1
    assert found["dnstrail_lost_total", "findings"] == 0
    assert found["dnstrail_coverage_ratio",] == pytest.approx(2 / 3)


def test_a_worker_is_ready_once_it_hears_a_probe(worker):
    """A worker without a signature, without a probe, or with a silent live probe is not ready."""
    assert unready(worker_of(), 0) == "no signature runs"
    worker.refused = "f.toml: no TOML\x1b"
    assert unready(worker, 0) == "reload: f.toml: no TOML\\x1b"
    assert values(worker)["dnstrail_signature_fault", "reload"] == 1
    worker.refused = ""
    assert unready(worker, 0) == "no probe was heard yet"
    hear(worker, 0, 2)
    assert unready(worker, worker.heard) == ""
    assert unready(worker, worker.heard + SILENCE + 0.1) == "no probe is heard"
    hear(worker, 1, 2, live=False)
    assert unready(worker, worker.heard + 100) == ""


class OfFacts(Reporter):
    """Selects transactions."""

    selected_events = (EventSelector("tracee", SCHED_PROCESS_EXIT), EventSelector("tracee", DNS_TRANSACTION))


def test_a_worker_of_facts_is_ready_once_it_hears_facts():
    """A worker that selects facts is not ready before their first turn, nor after their usual silence."""
    with short_folder() as folder, open_bus() as bus:
        feed = FactFeed(bus, f"ipc://{folder}/lookups.sock")
        worker = SignatureWorker(Messages(), Chosen.of(OfFacts), Delivery(lambda _: None), facts=feed)
        hear(worker, 0, 2)
        assert unready(worker, worker.heard) == "no facts are heard"
        worker.on_message(TURN, encode(Turn("c", 0, {}, True, 5)), worker.heard, feed)
        assert unready(worker, worker.heard) == ""
        worker.heard += SILENCE + 0.1
        assert unready(worker, worker.heard) == "no facts are heard"
