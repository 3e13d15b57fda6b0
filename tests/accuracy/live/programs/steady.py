"""Fetch a page of a random name again and again: steady.py SEED INTERVAL SECONDS FILE, which lists the names."""

from __future__ import annotations

import random
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path


def fetch(name: str) -> None:
    """Fetch a page over a connection of its own."""
    with socket.create_connection((name, 80), timeout=3) as connection:
        connection.sendall(f"GET /page HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        while connection.recv(65536):
            pass


def main(seed: str, interval: float, seconds: float, names: list[str]) -> None:
    """Fetch until the time is over, at intervals of this mean."""
    draw, end = random.Random(seed), time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        time.sleep(min(draw.uniform(0, 2 * interval), end - now))
        with suppress(OSError):  # broken names are part of the measurement
            fetch(draw.choice(names))


main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4]).read_text().split())
