"""Memory under endless fresh names, and under one name with endless addresses: both must stay flat."""

from __future__ import annotations

import gc
import os
import struct
import sys
import time
from pathlib import Path
from typing import Any

from dnstrail.dns import header
from dnstrail.dns.tables import Recent
from dnstrail.image import Bounds, Circumstances, Image

SECOND = 1_000_000_000  # ns
START = 1_700_000_000 * SECOND
RATE, MINUTES = 200, 60  # fresh names a second, minutes of the stream
WARM, HALF = 10, 30  # minutes: after WARM memory may not grow any more; the peaks before and after HALF are compared
GROWTH = 0.05  # of resident memory, which swings by 2 MiB as arenas of the allocator empty and fill
GROWTH_OF_BLOCKS = 0.01  # of the allocator's blocks in use, without those of the decoder's bounded tables, which swing
ADDRESSES = 200_000
TTLS = (5, 20, 30, 60, 60, 60, 120, 300, 300, 300, 600, 900, 3600, 3600, 14_400, 86_400)
SITES = 500  # of a content network, to which the names lead
EVICTED = ("evicted_roots", "evicted_owned", "evicted_relations")
PAGE = os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """Run both without the collector, as the cache runs, and print their tables; return 1 if a bound did not hold."""
    gc.disable()
    return 0 if all([fresh_names(), rotating_addresses()]) else 1


def fresh_names() -> bool:
    """Feed an hour of fresh names with aliases and addresses; return whether memory stays flat."""
    print(f"{RATE} fresh names a second for {MINUTES} minutes of the stream, default bounds")
    print(f"{'minute':>6} {'RSS MiB':>8} {'roots':>7} {'relations':>10} {'evicted_roots':>14} {'messages/s':>11}")
    image = new_image()
    sizes: list[int] = []
    blocks: list[int] = []
    began = time.perf_counter()
    for minute in range(1, MINUTES + 1):
        for number in range((minute - 1) * 60 * RATE, minute * 60 * RATE):
            image.feed(START + number * SECOND // RATE, answer(number), Circumstances(live=True))
        image.get(f"www.n{number}.example.com")
        sizes.append(resident())
        for table in (header._known, header._targets):
            forget(table)
        blocks.append(sys.getallocatedblocks())
        if minute in (1, 5) or not minute % 10:
            rate = minute * 60 * RATE / (time.perf_counter() - began)
            print(
                f"{minute:6} {sizes[-1] / 2**20:8.1f} {len(image):7,} {image.store.places.relations:10,}"
                f" {image.counters['evicted_roots']:14,} {rate:11,.0f}"
            )
    flat = all([is_flat("RSS", sizes, GROWTH), is_flat("blocks", blocks, GROWTH_OF_BLOCKS)])
    return flat and image.counters["evicted_roots"] > 0


def forget(table: Recent[Any, Any]) -> None:
    """Drop all entries of a table of the decoder."""
    table.replace()
    table.replace()
    table._replaced.clear()


def is_flat(what: str, by_minute: list[int], bound: float) -> bool:
    """Print by how much the peak of the later minutes is above that of the earlier; return whether it is in bounds."""
    growth = max(by_minute[HALF:]) / max(by_minute[WARM - 1 : HALF]) - 1
    holds = growth < bound
    span = f"peak of minutes {HALF + 1} to {MINUTES} over {WARM} to {HALF}"
    print(f"  {what}, {span}: {growth:+.2%}, less than {bound:.0%}: {verdict(holds)}")
    return holds


def rotating_addresses() -> bool:
    """Feed one name with ever new addresses; return whether the bound of an owner holds and evictions are counted."""
    print(f"\none name, {ADDRESSES:,} addresses, one a second of a TTL of a day, default bounds")
    image = new_image()
    before, held = resident(), 0
    for number in range(ADDRESSES):
        question = name_wire(b"one", b"example", b"com")
        address = struct.pack("!L", 0x0A000000 + number)
        image.feed(
            START + number * SECOND,
            response(question, record(b"\xc0\x0c", 1, address, 86_400)),
            Circumstances(live=True),
        )
        held = max(held, image.store.places.relations)
    evicted = sum(image.counters[name] for name in EVICTED)
    kept, owned = image.store.places.relations, image.bounds.owned
    found = image.get("one.example.com")
    print(f"  held at most {held:,}, in the end {kept:,} (owned: {owned:,}), returned {len(found.ip_addresses):,}")
    print("  " + ", ".join(f"{name} {image.counters[name]:,}" for name in EVICTED))
    print(f"  RSS {(resident() - before) / 2**20:+.1f} MiB")
    bounded = held <= owned and evicted == ADDRESSES - kept
    print(f"  bounded and counted: {verdict(bounded)}")
    return bounded


def verdict(holds: bool) -> str:
    """Return the verdict as text."""
    return "holds" if holds else "DOES NOT HOLD"


def new_image() -> Image:
    """Return an image with default bounds that accepts every response."""
    return Image(Bounds(), "accept")


def resident() -> int:
    """Return the resident set of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def answer(number: int) -> bytes:
    """Return the answer to a fresh name: an alias into a content network, and two addresses there."""
    ttl = TTLS[number % len(TTLS)]
    site = number % SITES
    names = name_wire(b"www", b"n%d" % number, b"example", b"com"), name_wire(b"e%d" % number, b"cdn", b"net")
    addresses = (struct.pack("!L", 0xC0000000 + site * 256 + low) for low in (number % 199, number % 193))
    records = (record(names[1], 1, address, min(ttl, 60)) for address in addresses)
    return response(names[0], record(b"\xc0\x0c", 5, names[1], ttl), *records)


def response(question: bytes, *records: bytes) -> bytes:
    """Return a response with one question of type A."""
    header = struct.pack("!HHHHHH", 1, 0x8180, 1, len(records), 0, 0)
    return b"".join((header, question, b"\0\1\0\1", *records))


def record(owner: bytes, kind: int, rdata: bytes, ttl: int) -> bytes:
    """Return a record of class IN."""
    return owner + struct.pack("!HHIH", kind, 1, ttl, len(rdata)) + rdata


def name_wire(*labels: bytes) -> bytes:
    """Return an uncompressed name."""
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


if __name__ == "__main__":
    sys.exit(main())
