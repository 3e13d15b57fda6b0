"""Trails as trees: for each question the path to the key, and the evidence for it."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType
from rich.text import Text
from rich.tree import Tree

from dnstrail.process.terminal import escape_unprintable
from dnstrail_cli.lookups.found_text import client_text

_MOST_ASKERS = 4  # drawn for one question
_FOREIGN = {True: " (a foreign server)", False: " (a configured server)", None: ""}


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
