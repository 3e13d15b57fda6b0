"""A probe that publishes the messages of a capture again and again at a steady rate: stream.py FOLDER CAPTURE RATE."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections import Counter
from itertools import cycle, islice
from pathlib import Path

from live_events import START, of_capture
from msgspec.structs import replace

from dnstrail.bus import ZmqBus
from dnstrail.bus.ipc import events_address
from dnstrail.captured import NET_PACKET_DNS
from dnstrail.protocol.batches import TURN
from dnstrail_probe.batch_publisher import BatchPublisher

TURN_SECONDS = 0.005


def main(folder: str, capture: str, rate: str) -> None:
    """Publish until SIGTERM; each turn contains the messages that are due."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    waiting, bus = cycle(of_capture(capture)), ZmqBus()
    publisher = bus.publisher(events_address(Path(folder)), lossless=False)
    while not publisher.subscribers(TURN) and not stop.is_set():
        stop.wait(TURN_SECONDS)
    batches = BatchPublisher(publisher, START, live=True)
    began, sent = time.monotonic(), 0
    while not stop.wait(TURN_SECONDS):
        due, now = int((time.monotonic() - began) * int(rate)), time.time_ns()
        for event in islice(waiting, due - sent):
            batches.add(NET_PACKET_DNS, replace(event, timestamp=now))
        sent = due
        batches.close_turn(now, Counter())
        batches.flush()
    batches.close_turn(time.time_ns(), Counter(), ended=True)
    batches.flush()
    bus.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
