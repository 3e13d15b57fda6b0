"""The metrics of the probe."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

from dnstrail.captured import Captured
from dnstrail.events import NET_PACKET_DNS
from dnstrail.protocol.batch_publisher import BatchPublisher
from dnstrail_probe.metrics import observe


def test_a_probe_counts_what_it_published_and_lost():
    """Published events count by name, and losses by hop; the probe is ready once its first turn has ended."""
    losses = {"ring_full": "kernel", "tcp_evicted": "probe"}
    source = SimpleNamespace(losses=losses, counters=Counter(packets=5, ring_full=2, tcp_evicted=3))
    batches = BatchPublisher(SimpleNamespace(), "start", live=True)
    observed = []
    observe(lambda *both: observed.extend(both), source, batches)
    collect, unready = observed
    assert unready() == "the probe waits for its subscribers"
    batches.add(NET_PACKET_DNS, Captured(1, b"x"))
    batches.add(NET_PACKET_DNS, Captured(1, bytes(1 << 20)))
    batches.close_turn(1, source.counters)
    assert unready() == ""
    found = {(one.name, *one.labels.values()): one.value for family in collect() for one in family.samples}
    assert found["dnstrail_events_total", NET_PACKET_DNS] == 1
    assert found["dnstrail_lost_total", "kernel"] == 2
    assert found["dnstrail_lost_total", "probe"] == 4
    assert found["dnstrail_source_total", "packets"] == 5
    assert found["dnstrail_turns_total",] == 1
