"""Findings that programs subscribe to."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dnstrail.bus import Subscriber, ZmqBus
from dnstrail.errors import BusError
from dnstrail_findings.targets import make_outputs, parse_target
from dnstrail_findings.writers.publisher import TOPIC, FindingPublisher
from live.workers import BOUND, open_bus, short_folder, wait_until


def address_in(folder: Path) -> str:
    return f"ipc://{folder}/published.sock"


def received(bus: ZmqBus, subscriber: Subscriber) -> tuple[str, bytes] | None:
    bus.wait(subscriber, timeout=BOUND)
    return subscriber.receive()


def test_every_subscriber_receives_a_finding() -> None:
    """Two subscribers receive each line under the topic of findings."""
    with short_folder() as folder, open_bus() as bus:
        writer = FindingPublisher(address_in(folder))
        both = [bus.subscriber([address_in(folder)], [TOPIC]) for _ in range(2)]
        wait_until(lambda: writer._publisher.subscribers(TOPIC) == len(both), "both subscriptions")
        writer.write([b"one", b"two"])
        for subscriber in both:
            assert [received(bus, subscriber) for _ in range(2)] == [(TOPIC, b"one"), (TOPIC, b"two")]
        writer.close()


def test_a_subscriber_that_does_not_read_delays_nobody() -> None:
    """The publisher drops what a full subscriber has no room for, and never waits; this is logged once."""
    with short_folder() as folder, open_bus() as bus, capture_logs() as logs:
        writer = FindingPublisher(address_in(folder))
        bus.subscriber([address_in(folder)], [TOPIC])
        wait_until(lambda: writer._publisher.subscribers(TOPIC) == 1, "the subscription")
        for _ in range(3000):
            writer.write([b"x" * 4096])
        writer._bus.close(now=True)
    assert [line["event"] for line in logs] == ["findings_missed"]


def test_an_address_has_one_publisher() -> None:
    """A second publisher at an address is refused."""
    with short_folder() as folder:
        [first] = make_outputs([parse_target(f"pub:{address_in(folder)}")])
        with pytest.raises(BusError, match="another dnstrail serves here"):
            make_outputs([parse_target(f"pub:{address_in(folder)}")])
        first._writer.close()
