"""The counters of the image."""

from __future__ import annotations


class Counts(dict[str, int]):
    """Counters by name; one that has counted nothing is 0. Unlike Counter it sets an item as fast as a dict."""

    __slots__ = ()

    def __missing__(self, name: str) -> int:
        return 0
