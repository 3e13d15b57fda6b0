"""The tables and trees of lookups for people; text from strangers is escaped. All of it imports rich."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, TypeVar

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from dnstrail.container import container_text
from dnstrail.process.terminal import escape_unprintable
from dnstrail_cli.lookups.found_text import client_text

_MOST_ASKERS = 4  # drawn for one question
_FOREIGN = {True: " (a foreign server)", False: " (a configured server)", None: ""}
_NONE = "-"
_UNITS = ((86400, "d"), (3600, "h"), (60, "m"))
T = TypeVar("T")
_AROUND = 3  # lines of a table that are no rows
_EVERY = 1.0  # seconds between two looks


def show(*renderables: RenderableType) -> None:
    """Print to stdout, without an interpretation of the text as markup."""
    console = Console(markup=False, highlight=False, emoji=False)
    for renderable in renderables:
        console.print(renderable, soft_wrap=isinstance(renderable, Text))


def counters_table(title: str, counters: dict[str, Any]) -> RenderableType:
    """Return counters as a table; the name of a nested counter holds the names of the maps around it.

    A line that is longer than the terminal is folded, never cut.
    """
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("counter", "value"):
        table.add_column(column, overflow="fold")
    for name, value in sorted(flat_counters(counters)):
        table.add_row(Text(escape_unprintable(name)), Text(escape_unprintable(str(value))))
    return table


def flat_counters(counters: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return all counters, each with the names of the maps around it in its name."""
    flat: list[tuple[str, Any]] = []
    for name, value in counters.items():
        flat += flat_counters(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]
    return flat


def every_second(look: Callable[[], T]) -> Iterator[T]:
    """Yield what a function returns, every second."""
    for _ in repeat(None):
        yield look()
        time.sleep(_EVERY)


def show_live(tables: Callable[[int], Iterable[Table]]) -> None:
    """Show each table in place of the one before it; without a terminal, one below the other.

    `tables` receives the number of rows that fit.
    """
    console = Console(markup=False, highlight=False, emoji=False)
    with Live(console=console, auto_refresh=False) as live:
        for table in tables(console.height - _AROUND):
            if console.is_terminal:
                live.update(table, refresh=True)
            else:
                console.print(table)


def rate_tables(counters: Iterable[dict[str, Any]], monotonic: Callable[[], float], most: int) -> Iterator[Table]:
    """Yield a table of the rates between each set of counters and the one before."""
    earlier: dict[str, float] = {}
    then = monotonic()
    for data in counters:
        now, present = monotonic(), numbers(data)
        yield rate_table(present, earlier, now - then, most)
        earlier, then = present, now


def numbers(counters: dict[str, Any]) -> dict[str, float]:
    """Return the counters that are numbers and not 0, by name, in order."""
    return {name: value for name, value in sorted(flat_counters(counters)) if isinstance(value, int | float) and value}


def rate_table(present: Mapping[str, float], earlier: Mapping[str, float], seconds: float, most: int) -> Table:
    """Return a table of at most `most` counters; those that changed come first if there are more."""
    table = Table(box=None, pad_edge=False)
    for column in ("counter", "value", "per second"):
        table.add_column(column, overflow="fold", no_wrap=column != "counter")
    changed = {name: value - earlier.get(name, value) for name, value in present.items()}
    shown = (
        present if len(present) <= most else dict.fromkeys(sorted(present, key=lambda name: not changed[name])[:most])
    )
    for name in shown:
        rate = f"{changed[name] / seconds:,.1f}" if changed[name] and seconds > 0 else ""
        table.add_row(Text(escape_unprintable(name)), f"{present[name]:,}", rate)
    if len(present) > len(shown):
        table.caption = f"{len(present) - len(shown)} further counters: dnstrail stats"
    return table


def connection_table(found: Sequence[dict[str, Any]], most: int, *, rivals: bool, hosts: bool = False) -> Table:
    """Return a table of at most `most` connections, the last opened ones if there are more."""
    table = Table(box=None, pad_edge=False)
    further = [*(["host"] if hosts else []), *(["rivals"] if rivals else [])]
    for title in ("age", "process", "where", "name", "address", "state", *further):
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
        container_text(connection["container_id"], connection["container_name"]) or connection.get("unit") or _NONE,
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


def trail_trees(found: dict[str, Any]) -> list[RenderableType]:
    """Return the data of a `trail` reply as trees: each path with rivals marked, then the names from TLS and HTTP."""
    trees: list[RenderableType] = [_tree(found["key"], trail) for trail in found["trails"]]
    if found["server_names"]:
        names = Tree(Text("server names that clients used (not DNS)", style="bold"))
        for called in found["server_names"]:
            names.add(Text(escape_unprintable(f"{called['name']}  ({called['evidence']}, {called['count']}x)")))
        trees.append(names)
    if found["truncated"]:
        trees.append(Text("... and more paths"))
    if not found.get("history", True):
        trees.append(Text("the history is incomplete: some of it was evicted"))
    return trees


def _tree(key: str, trail: dict[str, Any]) -> Tree:
    rank = "rival" if trail["rival"] else "likeliest"
    title = escape_unprintable(f"{trail['dns_root']}  ({rank}, {trail['state']})")
    tree = branch = Tree(Text(title, style="" if trail["rival"] else "bold"))
    for reason in trail["reasons"]:
        tree.add(Text(escape_unprintable(reason), style="dim"))
    for asker in trail["asked"][:_MOST_ASKERS]:
        tree.add(Text(_asker_text(asker), style="dim"))
    steps = trail["steps"]
    if not steps and key == trail["dns_root"]:
        tree.add(Text(f"{escape_unprintable(key)} itself was asked"))
    elif not steps or steps[0]["owner"] != trail["dns_root"]:
        branch = branch.add(
            Text(
                f"...   {escape_unprintable(steps[0]['owner'] if steps else key)}  (the path to this name was evicted)"
            )
        )
    for step in steps:
        branch = branch.add(Text(_step_text(step)))
    return tree


def _step_text(step: dict[str, Any]) -> str:
    life = f"{step['remaining']:.0f} s left" if step["state"] == "live" else step["state"]
    seen = f"seen {step['age']:.0f} s ago, {life}, {step['count']}x"
    return escape_unprintable(f"{step['kind']:<5} {step['target']}  ({seen})")


def _asker_text(asker: dict[str, Any]) -> str:
    who = client_text(asker)
    server = f"{asker['server'] or 'an unknown server'}{_FOREIGN[asker['foreign']]}"
    unseen = "" if asker["matched"] else ", the query was not seen"
    return escape_unprintable(f"asked by {who}, answered by {server}, {asker['count']}x{unseen}")
