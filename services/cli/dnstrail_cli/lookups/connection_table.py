"""The table of `dnstrail connections`; text from strangers is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from dnstrail.process.terminal import escape_unprintable

_NONE = "-"
_ID = 12  # characters of a container id, as docker prints it
_UNITS = ((86400, "d"), (3600, "h"), (60, "m"))


def connection_table(found: Sequence[dict[str, Any]], most: int, *, rivals: bool, hosts: bool = False) -> Table:
    """Return a table of at most `most` connections, the last opened ones if there are more."""
    table = Table(box=None, pad_edge=False)
    further = [*(["host"] if hosts else []), *(["rivals"] if rivals else [])]
    for title in ("age", "process", "container", "name", "address", "state", *further):
        table.add_column(title, overflow="fold", no_wrap=title == "age")
    for connection in found[max(len(found) - most, 0) :]:
        table.add_row(*(Text(escape_unprintable(cell)) for cell in _cells(connection, further)))
    if len(found) > most:
        table.caption = f"{len(found) - most} connections that were opened earlier"
    return table


def _cells(connection: dict[str, Any], further: Sequence[str]) -> list[str]:
    process = f"{connection['process_name']}({connection['process_id']})" if connection["process_id"] else _NONE
    address, state = connection["address"], connection["state"] or "no name"
    shown = f"[{address}]" if ":" in address else address
    others = {"host": connection["host"] or _NONE, "rivals": " ".join(connection["rivals"]) or _NONE}
    return [
        age_text(connection["age"]),
        process,
        connection["container_name"] or connection["container_id"][:_ID] or _NONE,
        connection["name"] or _NONE,
        f"{shown}:{connection['port']}/{connection['transport']}",
        state if connection["connected"] else f"{state}, attempted",
        *(others[title] for title in further),
    ]


def age_text(seconds: float) -> str:
    """Return an age in its largest unit: `42s`, `7m`, `3h`, `2d`."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds // size:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"
