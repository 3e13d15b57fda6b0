"""The report: tables for people, and one JSON object for programs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from course import Course
from join import Joined
from measure import Measured
from verdict import MEASURES, SEEN, TRAIL, mechanism, right

_WIDTH = 180
_SHORT = 3  # minutes of a measurement whose memory is not worth a table
Counts = dict[str, Counter[str]]  # by group


def show_measured(found: Measured) -> None:
    """Print all tables and notes."""
    if found.left_out:
        print(f"left out, since they are missing here: {', '.join(found.left_out)}")
    named = [joined for joined in found.joined if joined.meant]
    resolver = dict(enumerate(found.resolvers))
    _show("By client", _count(named, _client_of))
    _show("\nBy resolver", _count(named, lambda joined: resolver[joined.job.host] if joined.job else "unknown"))
    _show_mechanisms(named)
    late = sorted(joined.event.late / 1e6 for joined in named if joined.event) or [0.0]
    middle, last = late[len(late) // 2], late[len(late) * 99 // 100]
    others = {
        name: sum(1 for one in named if one.event and [getattr(one.event, name)] != one.event.names[:1])
        for name in ("by_time", "got")
    }
    print(f"\nAnother first name than in `dst_dns`, by time: trail {others['by_time']}, get {others['got']}")
    print(f"Answers came {middle:.0f} ms after the event (median), and {last:.0f} ms (99 % of them)")
    exchangeable = sum(joined.exchangeable for joined in named)
    print(f"Connections that could be those of another event of the same moment, address and port: {exchangeable}")
    print(f"Connections that stated no name, and count nowhere: {len(found.joined) - len(named)}")
    print(f"Clients that were ended after too long a time: {found.killed}")
    print(f"Losses of dnstrail: {found.losses or 'none'}")
    _show_said(found)
    _show_course(found.course, named)


def _show_said(found: Measured) -> None:
    """Print how often the name that a client said comes first, once it is said."""
    if not found.said:
        return
    stated = [joined.connection for joined in found.joined if joined.connection.name]
    first = sum(found.said.get((one.source, one.source_port, one.address, one.port)) == one.name for one in stated)
    print(f"With the server name of the very connection the true name comes first in {first} of {len(stated)}")


def _show_course(course: Course, named: list[Joined]) -> None:
    """Print what a restart changed, and the memory of the workers."""
    if course.restarted:
        for when, within in (("Within", True), ("Outside", False)):
            judged = [joined for joined in named if course.is_restart(joined.connection.opened) is within]
            first = sum(TRAIL in right(joined) for joined in judged)
            share = f"{first} of {len(judged)} ({100 * first / max(len(judged), 1):.2f} %)"
            print(f"{when} ten seconds after the restart of the cache the true name comes first in {share}")
    _show_memory(course)
    for name, (middle, last) in course.peaks().items():
        print(f"Memory of the {name}: {middle} MiB at most in the second third of the time, {last} MiB in the last")


def _show_memory(course: Course) -> None:
    """Print the memory of the workers in each minute of a long measurement."""
    minutes = course.minutes()
    if len(minutes) < _SHORT:
        return
    table = Table(title="\nMemory at most, in MiB", title_justify="left", box=None, pad_edge=False)
    table.add_column("minute", justify="right")
    for name in minutes[0]:
        table.add_column(name, justify="right")
    for number, one in enumerate(minutes, 1):
        table.add_row(str(number), *map(str, one.values()))
    Console(width=_WIDTH).print(table)


def as_json(all_joined: Iterable[Joined]) -> list[dict[str, Any]]:
    """Return one map for each connection."""
    return [
        {
            "client": _client_of(joined),
            "process": joined.event.process if joined.event else 0,
            "host": joined.job.host if joined.job else -1,
            "fetched": joined.job.names if joined.job else [],
            "meant": joined.meant,
            "opened": joined.connection.opened,
            "source": joined.connection.source,
            "source_port": joined.connection.source_port,
            "address": joined.connection.address,
            "port": joined.connection.port,
            "right": sorted(right(joined)),
            "wrong": "" if TRAIL in right(joined) else mechanism(joined),
            "event": asdict(joined.event) if joined.event else None,
        }
        for joined in all_joined
    ]


def _count(all_joined: Iterable[Joined], group: Callable[[Joined], str]) -> Counts:
    """Count connections, and those named rightly, by group."""
    found: Counts = defaultdict(Counter)
    for joined in all_joined:
        counts = found[group(joined)]
        counts["connections"] += 1
        counts["names"] += len(joined.event.names) if joined.event else 0
        counts.update(right(joined))
    return dict(sorted(found.items()))


def _client_of(joined: Joined) -> str:
    """Return the name of the client that connected."""
    return joined.job.client.name if joined.job else "unknown"


def _show(title: str, counts: Counts) -> None:
    """Print a table with a line for each group, and their sum."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for name in ("connections", *MEASURES, "names"):
        table.add_column(name, justify="right")
    for group, one in counts.items():
        table.add_row(group, *_cells(one))
    table.add_row("all", *_cells(sum(counts.values(), Counter())), style="bold")
    Console(width=_WIDTH).print(table)


def _show_mechanisms(all_joined: list[Joined]) -> None:
    """Print why trails put another name first, with the clients."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for joined in all_joined:
        if TRAIL not in right(joined):
            found[mechanism(joined)][_client_of(joined)] += 1
    print("\nAnother name comes first in `trail`")
    for why, clients in sorted(found.items(), key=lambda item: -item[1].total()):
        print(f"{clients.total():6} {why}")
        print(f"       {', '.join(f'{client} {number}' for client, number in clients.most_common(8))}")


def _cells(counts: Counter[str]) -> list[str]:
    whole, seen = counts["connections"], max(counts[SEEN], 1)
    shares = [f"{counts[name]} ({100 * counts[name] / max(whole, 1):.1f} %)" for name in MEASURES]
    return [str(whole), *shares, f"{counts['names'] / seen:.1f}"]
