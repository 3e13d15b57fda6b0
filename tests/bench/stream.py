"""A probe that publishes the messages of a capture again and again at a steady rate: stream.py FOLDER CAPTURE RATE.

It makes all batches first: else its own work would take a core from the cache and the client that are measured.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from itertools import cycle, islice
from pathlib import Path

from live_events import HOST, START, of_capture
from msgspec.structs import replace

from dnstrail.bus import ZmqBus
from dnstrail.bus.ipc import events_address
from dnstrail.captured import NET_PACKET_DNS
from dnstrail.protocol.batches import TURN, Batch, Turn, encode

TURN_SECONDS = 0.005
SECONDS = 8  # after which the stream ends
_AHEAD = 3  # seconds in which the batches are made


def main(folder: str, capture: str, rate: str) -> None:
    """Publish until the stream ends, or until SIGTERM; each turn contains the messages that are due."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    bus, each = ZmqBus(), int(int(rate) * TURN_SECONDS)
    publisher = bus.publisher(events_address(Path(folder)), lossless=False)
    began, stamp = time.monotonic() + _AHEAD, time.time_ns() + _AHEAD * 10**9
    waiting, turns = cycle(of_capture(capture)), []
    for number in range(int(SECONDS / TURN_SECONDS)):
        now = stamp + int(number * TURN_SECONDS * 1e9)
        events = [replace(event, timestamp=now) for event in islice(waiting, each)]
        batch = Batch(START, number, number, events, {NET_PACKET_DNS: number * each}, HOST)
        turns.append((encode(batch), _end(number, each, now)))
    while not publisher.subscribers(TURN) and not stop.is_set():
        stop.wait(TURN_SECONDS)
    for body, end in turns:
        publisher.publish(NET_PACKET_DNS, body)
        publisher.publish(TURN, encode(end))
        if stop.wait(max(began + (end.turn + 1) * TURN_SECONDS - time.monotonic(), 0)):
            break
    publisher.publish(TURN, encode(replace(end, turn=end.turn + 1, ended=True)))
    bus.close()


def _end(number: int, each: int, now: int) -> Turn:
    """Return the end of a turn with one batch."""
    count = {NET_PACKET_DNS: (number + 1) * each}
    return Turn(START, number, {NET_PACKET_DNS: number}, live=True, now=now, published=count, host=HOST)


if __name__ == "__main__":
    main(*sys.argv[1:])
