"""The rows of a fleet: a hundred hosts with ten programs each, which ask for 50,000 names, a few of them most.

Every second name has an alias, and each has one to three addresses.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice

from builders.fleet import NOON, row
from dnstrail_fleet.row import DAY, AskerRows, FleetEntry, FleetRow

NAMES = 50_000
HOSTS, PROGRAMS = 100, 10


def popular(chosen: random.Random, count: int) -> int:
    """Return a number below a count, a small one most often."""
    return min(int(chosen.paretovariate(0.6)) - 1, chosen.randrange(count))


def name_of(number: int) -> tuple[str, list[tuple[str, int, str]]]:
    """Return a name, and its relations."""
    name = f"host{number}.service{number % 97}.example"
    owner, relations = name, []
    if number % 2:
        owner = f"edge{number % 3000}.cdn.example"
        relations.append((name, 5, owner))
    relations += [(owner, 1, f"203.{number % 250}.{number // 250 % 250}.{part + 1}") for part in range(1 + number % 3)]
    return name, relations


def entry_of(chosen: random.Random, day: int, count: int, noon: int = NOON) -> FleetEntry:
    """Return an entry of any host with rows of any program, so many days after a noon (seconds since the epoch)."""
    host, program = f"web{chosen.randrange(HOSTS)}", f"/usr/bin/worker{chosen.randrange(PROGRAMS)}"
    rows = tuple(islice(_rows(chosen, noon + day * DAY), count))
    sent = (noon + day * DAY + DAY // 2) * 1000
    return FleetEntry(1, host, sent, askers=(AskerRows(program, "", "", rows),))


def _rows(chosen: random.Random, noon: int) -> Iterator[FleetRow]:
    while True:
        number = popular(chosen, NAMES) if chosen.random() < 0.5 else chosen.randrange(NAMES)
        question, relations = name_of(number)
        at = noon + chosen.randrange(-40_000, 40_000)
        for owner, rdtype, target in relations:
            yield row(question, target, owner="" if owner == question else owner, type=rdtype, at=at)
