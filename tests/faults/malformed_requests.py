"""Sends malformed requests to a lookup socket at a rate: ADDRESS RATE SECONDS; prints the numbers sent and answered."""

from __future__ import annotations

import json
import os
import sys
import time
from itertools import cycle

import msgpack
import zmq

_CLIENTS = 32
_LINGER = 5.0  # seconds for the last replies
_NESTED: object = "deep"
for _ in range(60):
    _NESTED = [_NESTED]
REQUESTS = (
    b"",
    b"\xc1 no MessagePack",
    os.urandom(64),
    msgpack.packb([1, 2, 3]),
    msgpack.packb({"v": 99, "op": "get", "key": "a"}),
    msgpack.packb({"v": 1, "op": "no such operation"}),
    msgpack.packb({"v": 1, "op": "get", "key": 7}),
    msgpack.packb({"v": 1, "op": "get", "key": "a" * 2000}),
    msgpack.packb({"v": 1, "op": "get_many", "keys": _NESTED}),
    msgpack.packb({"v": 1, "op": "get", "key": "a", "after": [["start"]]}),
    msgpack.packb({"v": 1, "op": "join", "group": "", "worker": "x" * 4000, "progress": 1}),
)


def main(address: str, rate: int, seconds: int) -> None:
    """Send the requests that are due, from some clients in turn, and read the replies."""
    context = zmq.Context()
    clients = [context.socket(zmq.DEALER) for _ in range(_CLIENTS)]
    for client in clients:
        client.linger = 0
        client.connect(address)
    requests, sent, refused, answered = cycle(REQUESTS), 0, 0, 0
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds + _LINGER and (passed < seconds or answered < sent):
        due = int(min(passed, seconds) * rate)
        for client in clients:
            for _ in range((due - sent - refused + _CLIENTS - 1) // _CLIENTS):
                if _send(client, next(requests)):
                    sent += 1
                else:
                    refused += 1
            answered += _read(client)
        time.sleep(0.001)
    print(json.dumps({"sent": sent, "had_to_wait": refused, "answered": answered}))


def _send(client: zmq.Socket[bytes], request: bytes) -> bool:
    try:
        client.send_multipart([b"", request], zmq.NOBLOCK)
    except zmq.Again:
        return False
    return True


def _read(client: zmq.Socket[bytes]) -> int:
    count = 0
    try:
        while client.recv_multipart(zmq.NOBLOCK):
            count += 1
    except zmq.Again:
        return count


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
