"""Findings on the bus: any number of programs can subscribe to them."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from dnstrail.bus import Bus, ZmqBus

TOPIC = "finding"


class FindingPublisher:
    """Publishes each line as the body of a message.

    A subscriber that does not read misses findings; the first time is logged. The bus is opened by the thread that
    makes the publisher, and handed over to the thread of the output.

    Raises:
        BusError: The address cannot be bound.
    """

    most = 1
    most_bytes = 1 << 20

    def __init__(self, address: str) -> None:
        self._overflowed = False
        self._bus: Bus = ZmqBus()
        try:
            self._publisher = self._bus.publisher(address, lossless=False)
        except BaseException:
            self._bus.close(now=True)
            raise

    def write(self, lines: Sequence[bytes]) -> None:
        """Publish lines."""
        self._publisher.subscribers(TOPIC)  # reads the subscriptions that wait, so that their number stays small
        for line in lines:
            self._publisher.publish(TOPIC, line)
        if self._publisher.overflowed and not self._overflowed:
            self._overflowed = True
            structlog.get_logger().warning("findings_missed")

    def close(self) -> None:
        """Deliver for a moment, and close the bus."""
        self._bus.close()
