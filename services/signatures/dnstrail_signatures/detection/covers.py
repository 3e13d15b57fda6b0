"""Suffixes: a name covers itself and the names below it, by whole labels."""

from __future__ import annotations

from collections.abc import Container


def covered_by(name: str, names: Container[str]) -> str | None:
    """Return the first of a name and the names above it that is among some names, or None. Escapes are not read."""
    while name:
        if name in names:
            return name
        name = name.partition(".")[2]
    return None
