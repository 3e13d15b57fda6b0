"""The jobs of a long measurement: many clients that each fetch one page after the other, at a steady rate."""

from __future__ import annotations

import sys
from pathlib import Path

from clients import PROGRAMS, Client
from internet import Site
from jobs import Job


def steady_jobs(seed: int, sites: list[Site], hosts: int, clients: int, rate: float, seconds: float) -> list[Job]:
    """Return one job for each client; all together open `rate` connections a second to all sites."""
    names = [site.name for site in sites]
    return [
        Job(number, _steady(f"{seed}-{number}", clients / rate, seconds), number % hosts, names, names, 0.0)
        for number in range(clients)
    ]


def _steady(seed: str, interval: float, seconds: float) -> Client:
    def command(urls: list[str], folder: Path) -> list[str]:
        (folder / "names").write_text("\n".join(urls))
        return [sys.executable, "-S", str(PROGRAMS / "steady.py"), seed, str(interval), str(seconds), f"{folder}/names"]

    return Client("steady", sys.executable, 1, command)
