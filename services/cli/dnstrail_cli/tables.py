"""Answers as text for people: tables and trees, with everything that strangers wrote made plain."""

from __future__ import annotations

from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from dnstrail.process.terminal import escape_unprintable


def show(*renderables: RenderableType) -> None:
    """Print to stdout, without interpretation of what the text holds."""
    console = Console(markup=False, highlight=False, emoji=False)
    for renderable in renderables:
        console.print(renderable, soft_wrap=isinstance(renderable, Text))


def found_table(key: str, data: dict[str, Any] | None) -> RenderableType:
    """A lookup: the key, its root, the names that belong to it, and its addresses."""
    if data is None:
        return Text(f"{escape_unprintable(key)}: not found")
    state = data.get("state", "live") + (", truncated" if data.get("truncated") else "")
    state += "" if data.get("history", True) else ", as far as it is remembered"
    rows = {
        "key": [key],
        "root": [data["dns_root"] or "(nobody asked for it)"],
        "names": data["dns_queries"],
        "addresses": data["ip_addresses"] or ["(none)"],
        "state": [state],
    }
    lines = [
        f"{name if place == 0 else '':<11}{escape_unprintable(value)}"
        for name, values in rows.items()
        for place, value in enumerate(values)
    ]
    return Text("\n".join(lines))


def counters_table(title: str, counters: dict[str, Any]) -> RenderableType:
    """Counters by name; maps of counters are flattened."""
    table = Table("counter", "value", title=title, title_justify="left", box=None, pad_edge=False)
    for name, value in sorted(_flat(counters)):
        table.add_row(Text(escape_unprintable(name)), Text(escape_unprintable(str(value))))
    return table


def event_line(event: dict[str, Any]) -> str:
    """An event as one line of a table: time, name, process, arguments."""
    seconds, nanoseconds = divmod(event["timestamp"], 1_000_000_000)
    args = " ".join(f"{arg['name']}={_short(arg['name'], arg['value'])}" for arg in event["args"])
    process = f"{event['processName'] or '-'}({event['processId']})"
    return escape_unprintable(f"{seconds}.{nanoseconds:09d} {event['eventName']:<18} {process:<20} {args}")


def _short(name: str, value: Any) -> str:
    """A value short enough for a line; of a DNS message its questions and answers."""
    if not isinstance(value, dict):
        return ",".join(map(str, value)) if isinstance(value, list) else str(value)
    if name != "proto_dns":
        return "{...}"
    asked = ",".join(f"{question['name']}/{question['type']}" for question in value["questions"])
    return f"{asked}[{len(value['answers'])} answers]" if value["QR"] else f"{asked}?"


def _flat(counters: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for name, value in counters.items():
        flat += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]
    return flat
