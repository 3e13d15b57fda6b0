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

from live_events import BATCH, bodies, of_capture, turn_end
from msgspec.structs import replace

from dnstrail.bus import ZmqBus
from dnstrail.bus.ipc import events_address
from dnstrail.events import NET_PACKET_DNS
from dnstrail.protocol.batches import TURN, encode

SECONDS = 8  # after which the stream ends
_AHEAD = 3  # seconds in which the batches are made
_POLL = 0.005  # seconds between two looks for a subscriber


def main(folder: str, capture: str, rate: str) -> None:
    """Publish until the stream ends, or until SIGTERM; each turn contains one batch, which is due at its end."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    bus, seconds = ZmqBus(), BATCH / int(rate)  # of a turn
    publisher = bus.publisher(events_address(Path(folder)), lossless=False)
    began, stamp = time.monotonic() + _AHEAD, time.time_ns() + _AHEAD * 10**9
    stamps = [stamp + int(number * seconds * 1e9) for number in range(int(SECONDS / seconds))]
    events = islice(cycle(of_capture(capture)), len(stamps) * BATCH)
    stamped = (replace(event, timestamp=stamps[place // BATCH]) for place, event in enumerate(events))
    turns = [
        (body, turn_end(number, (number + 1) * BATCH, stamps[number])) for number, body in enumerate(bodies(stamped))
    ]
    while not publisher.subscribers(TURN) and not stop.is_set():
        stop.wait(_POLL)
    for body, end in turns:
        publisher.publish(NET_PACKET_DNS, body)
        publisher.publish(TURN, encode(end))
        if stop.wait(max(began + (end.turn + 1) * seconds - time.monotonic(), 0)):
            break
    publisher.publish(TURN, encode(replace(end, turn=end.turn + 1, ended=True)))
    bus.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
