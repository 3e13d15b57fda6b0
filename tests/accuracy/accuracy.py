"""Measure how often lookups and trails give the right name of a connection (`make accuracy`).

The corpus holds an oracle: connections whose clients stated the server's name themselves.
"""

from __future__ import annotations

import csv
import os
import sys
from collections import Counter
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from dnstrail.capture_options import CaptureOptions
from dnstrail.captured import Captured
from dnstrail.connection import Connection
from dnstrail.dns import decode
from dnstrail.dns.names import lookup_key
from dnstrail.dns.rdata import AAAA, A
from dnstrail.events import EFFECTS, NET_PACKET_DNS, NET_SERVER_NAME
from dnstrail.image import Bounds, Image
from dnstrail.image.apply import apply_event
from dnstrail_probe.sources.capture_file import CaptureFileSource

GRACE = 86400.0
_NANOSECONDS = 1_000_000_000
_COUNTED = (
    "connections",
    "resolved",
    "in the set",
    "dns_root",
    "best ranked",
    "last question",
    "owner of the record",
    "named at all",
)
Events = list[tuple[str, Captured]]


class Row(msgspec.Struct, frozen=True):
    """One connection of the oracle. `epoch` is the time at which the client stated the name, in ns since 1970."""

    epoch: int
    client: str
    server: str
    port: int
    name: str


class Figures(msgspec.Struct):
    """The figures of one capture, and a line for each connection whose true name did not come first."""

    counts: Counter[str] = msgspec.field(default_factory=Counter)
    lines: list[str] = []


def read_oracle(path: Path) -> dict[str, list[Row]]:
    """Return the connections of each capture, ordered by time."""
    found: dict[str, list[Row]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            seconds, fraction = row["epoch"].split(".")
            epoch = int(seconds) * _NANOSECONDS + int(fraction.ljust(9, "0"))
            one = Row(epoch, row["client"], row["server"], int(row["port"]), lookup_key(row["name"]) or "")
            found.setdefault(row["file"], []).append(one)
    return {capture: sorted(rows, key=lambda row: row.epoch) for capture, rows in found.items()}


def read_events(path: Path) -> Events:
    """Return all events of a capture that the image uses."""
    source = CaptureFileSource(str(path), CaptureOptions(server_names=True))
    events: Events = []
    while (captures := source.read(1.0)) is not None:
        events += [capture for capture in captures if capture[0] in EFFECTS]
    source.close()
    return events


class Naive:
    """The answers of simpler systems: the last question that gave an address, and the last owner of its record."""

    def __init__(self) -> None:
        self.question: dict[str, str] = {}
        self.owner: dict[str, str] = {}

    def feed(self, event: Captured) -> None:
        """Apply one DNS message."""
        message = decode(event.payload)
        for record in message.answers:
            if record.type in (A, AAAA):
                self.question[str(record.target)] = message.name
                self.owner[str(record.target)] = record.owner


def measure(events: Events, rows: list[Row], *, server_names: bool) -> Figures:
    """Look every connection up as of its epoch, with the events up to that time."""
    image, naive, found = Image(Bounds(grace=GRACE), "accept"), Naive(), Figures()
    waiting = sorted(events, key=lambda capture: capture[1].timestamp)[::-1]
    for row in rows:
        while waiting and waiting[-1][1].timestamp <= row.epoch:
            topic, event = waiting.pop()
            if topic == NET_SERVER_NAME and not server_names:
                continue
            apply_event(image, EFFECTS.get(topic, ""), event, live=False)
            if topic == NET_PACKET_DNS:
                naive.feed(event)
        _ask(image, naive, row, found)
    return found


def _ask(image: Image, naive: Naive, row: Row, found: Figures) -> None:
    counts, at = found.counts, row.epoch
    counts["connections"] += 1
    data = image.get(row.server, at=at)
    trails = image.trails(row.server, Connection(client=row.client, port=row.port), at=at)
    server_names = [one.name for one in trails.server_names] if trails else []
    counts["known"] += row.name in server_names or (data is not None and row.name in data.dns_queries)
    if data is None:
        return
    counts["resolved"] += 1
    counts["names"] += len(data.dns_queries)
    counts["in the set"] += row.name in data.dns_queries
    counts["dns_root"] += row.name == data.dns_root
    counts["last question"] += row.name == naive.question.get(row.server)
    counts["owner of the record"] += row.name == naive.owner.get(row.server)
    best = trails.trails[0] if trails and trails.trails else None
    if row.name not in data.dns_queries:
        why = "had no answer before" if image.get(row.name, at=at) is None else "was answered with other addresses"
        found.lines.append(
            f"{row.server}:{row.port} at {at / _NANOSECONDS:.3f}: {row.name} {why}; {data.dns_root} led there"
        )
    elif best is not None and best.dns_root == row.name:
        counts["best ranked"] += 1
    else:
        first = f"{best.dns_root} ({', '.join(best.reasons)})" if best else "nothing"
        found.lines.append(
            f"{row.server}:{row.port} at {at / _NANOSECONDS:.3f}: {row.name}, but {first} was ranked first"
        )


def _share(part: int, whole: int) -> str:
    return f"{part} ({100 * part / whole:.1f} %)" if whole else str(part)


def _line(name: str, counts: Counter[str]) -> list[str]:
    resolved, in_set = counts["resolved"], counts["in the set"]
    return [
        name,
        str(counts["connections"]),
        str(resolved),
        _share(in_set, resolved),
        _share(counts["dns_root"], resolved),
        _share(counts["best ranked"], in_set),
        f"{counts['names'] / resolved:.2f}" if resolved else "",
        _share(counts["last question"], resolved),
        _share(counts["owner of the record"], resolved),
        _share(counts["known"], counts["connections"]),
    ]


def show(title: str, found: dict[str, Figures]) -> Counter[str]:
    """Print the figures of all captures and return their sums."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    names = ("capture", *_COUNTED[:5], "mean size", *_COUNTED[5:])
    for place, name in enumerate(names):
        table.add_column(name, justify="left" if place == 0 else "right")
    total: Counter[str] = Counter()
    for capture, misses in found.items():
        table.add_row(*_line(capture, misses.counts))
        total += misses.counts
    table.add_row(*_line("all", total), style="bold")
    Console(width=190).print(table)
    return total


def main() -> int:
    """Measure and print; return 1 if a figure falls below its floor."""
    if not os.environ.get("DNSTRAIL_CORPUS"):
        print("accuracy: DNSTRAIL_CORPUS names no folder of captures; nothing to measure")
        return 0
    corpus = Path(os.environ["DNSTRAIL_CORPUS"])
    oracle = read_oracle(corpus / "connect_names.tsv")
    events = {capture: read_events(corpus / "captures" / capture) for capture in oracle}
    by_dns = {capture: measure(events[capture], rows, server_names=False) for capture, rows in oracle.items()}
    total = show("By DNS evidence alone (shares: of the resolved; best ranked: of those in the set)", by_dns)
    helped = {capture: measure(events[capture], rows, server_names=True) for capture, rows in oracle.items()}
    show("\nRanked with the server names of earlier connections, too", helped)
    print("\nConnections that DNS evidence alone names wrongly")
    for capture, misses in by_dns.items():
        for line in misses.lines:
            print(f"{capture}: {line}")
    return 0 if _reaches_floors(total) else 1


def _reaches_floors(total: Counter[str]) -> bool:
    resolved, in_set = max(total["resolved"], 1), max(total["in the set"], 1)
    return (
        total["in the set"] >= 0.90 * resolved
        and total["dns_root"] >= 0.80 * resolved
        and total["best ranked"] >= 0.93 * in_set
    )


if __name__ == "__main__":
    sys.exit(main())
