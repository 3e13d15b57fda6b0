"""Sends DNS responses at a steady rate over a real socket: SOURCE DESTINATION RATE SECONDS; writes what it sent."""

from __future__ import annotations

import json
import socket
import sys
import time

import dns.message
import dns.rrset

NAMES = 2000


def main(source: str, destination: str, rate: int, seconds: int) -> None:
    """Send; every millisecond what is due by then."""
    payloads = []
    for number in range(NAMES):
        name = f"host{number}.flood.example."
        response = dns.message.make_response(dns.message.make_query(name, "A", id=number))
        response.answer.append(dns.rrset.from_text(name, 300, "IN", "A", f"198.18.{number // 250}.{number % 250}"))
        payloads.append(response.to_wire())
    sending = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sending.bind((source, 53))
    target = (destination, 40053)
    began, sent, total = time.monotonic(), 0, rate * seconds
    while sent < total:
        due = min(total, int((time.monotonic() - began) * rate) + 1)
        for number in range(sent, due):
            # The id of each round is its own: no two packets are the same.
            payload = payloads[number % NAMES]
            sending.sendto((number // NAMES & 0xFFFF).to_bytes(2, "big") + payload[2:], target)
        sent = due
        time.sleep(0.001)
    print(json.dumps({"sent": sent, "seconds": round(time.monotonic() - began, 2)}))  # noqa: T201 - its answer


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
