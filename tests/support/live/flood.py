"""Sends DNS responses at a steady rate: SOURCE DESTINATION RATE SECONDS [PORT]; prints the number sent."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import dns.message
import dns.rrset

NAMES = 2000


def main(source: str, destination: str, rate: int, seconds: int, port: int = 53) -> None:
    """Send from a port; every millisecond the responses that are due."""
    go_first()
    payloads = []
    for number in range(NAMES):
        name = f"host{number}.flood.example."
        response = dns.message.make_response(dns.message.make_query(name, "A", id=number))
        response.answer.append(dns.rrset.from_text(name, 300, "IN", "A", f"198.18.{number // 250}.{number % 250}"))
        payloads.append(response.to_wire()[2:])
    sending = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sending.bind((source, port))
    sendto, target = sending.sendto, (destination, 40053)
    # Each round has its own id, so no two packets are equal.
    send_steadily(
        lambda number: sendto((number // NAMES & 0xFFFF).to_bytes(2, "big") + payloads[number % NAMES], target),
        rate,
        seconds,
    )


def send_steadily(send: Callable[[int], object], rate: int, seconds: int) -> None:
    """Call `send` with the number of each message that is due, every millisecond.

    Print how many messages were sent, and the seconds that they took.
    """
    began, sent, total = time.monotonic(), 0, rate * seconds
    while sent < total:
        due = min(total, int((time.monotonic() - began) * rate) + 1)
        for number in range(sent, due):
            send(number)
        sent = due
        time.sleep(0.001)
    print(json.dumps({"sent": sent, "seconds": round(time.monotonic() - began, 2)}))


def go_first() -> None:
    """Raise the priority of this process and of its session: a sender that is late proves nothing."""
    with suppress(OSError):
        os.setsid()
        os.setpriority(os.PRIO_PROCESS, 0, -10)
        Path("/proc/self/autogroup").write_text("-10")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
