"""The memory of a query root among a million."""

from __future__ import annotations

from collections.abc import Iterator

from figures import Figure
from memory import of_roots


def measure(_capture: str) -> Iterator[Figure]:
    """Measure the memory of the process as an image is filled."""
    yield from of_roots((1_000_000,))
