"""Free ports that no client of this host takes meanwhile: below those that the kernel gives to connections."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

_PORTS = range(12_000, 32_000)


def free_port(address: str, count: int = 1) -> int:
    """Return the first of some ports, one after the other, that are free at an address."""
    for _ in range(100):
        first = random.choice(_PORTS)
        with suppress(OSError):
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind((address, port))
            return first
    raise AssertionError("no free ports")
