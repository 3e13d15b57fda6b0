"""Rings, and the order in which query roots give up their places: of all roots, and of a party (docs/image.md)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from dnstrail.image.answer import PartyKey

T = TypeVar("T")


class Link(Generic[T]):
    """The link of one root, or of something else, in a ring. A link that is in no ring has no neighbours."""

    __slots__ = ("newer", "older", "root")

    def __init__(self, root: T | None = None) -> None:
        self.root = root
        self.newer: Link[T] | None = None
        self.older: Link[T] | None = None

    def remove_link(self) -> None:
        """Take this link out of its ring, if there is one."""
        newer, older = self.newer, self.older
        if newer is not None and older is not None:
            newer.older, older.newer = older, newer
            self.newer = self.older = None

    def leave(self) -> None:
        """Leave the ring for good: no cycle of references holds the root in memory."""
        self.remove_link()
        self.root = None


class Ring(Generic[T]):
    """Roots in the order of their last use; each step takes constant time."""

    __slots__ = ("_end",)

    def __init__(self) -> None:
        end: Link[T] = Link()
        self._end = end
        end.newer = end.older = end

    def append(self, link: Link[T]) -> None:
        """Move a link to the newest place of this ring, out of its present ring."""
        end = self._end
        newest, newer, older = end.older, link.newer, link.older
        if newest is link or newest is None:  # the end of a ring always has neighbours
            return
        if newer is not None and older is not None:
            newer.older, older.newer = older, newer
        link.older, link.newer = newest, end
        newest.newer = end.older = link

    def oldest(self) -> T | None:
        """Return the root at the oldest place, None if the ring is empty."""
        link = self._end.newer
        return None if link is None else link.root

    def second(self) -> T | None:
        """Return the root after the oldest of a ring that is not empty, None if there is no other."""
        link = self._end.newer
        after = None if link is None else link.newer
        return None if after is None else after.root

    def close(self) -> None:
        """Give up an empty ring: its end is its own neighbour, and this cycle would hold it in memory."""
        self._end.remove_link()

    def __iter__(self) -> Iterator[T]:
        link = self._end.newer
        while link is not None and link.root is not None:
            yield link.root
            link = link.newer


class Order(Generic[T]):
    """Some roots in two rings: roots whose relations have all ended go first, then the least recently used."""

    __slots__ = ("ended", "used")

    def __init__(self) -> None:
        self.used = Ring[T]()
        self.ended = Ring[T]()

    def __iter__(self) -> Iterator[T]:
        yield from self.ended
        yield from self.used

    def close(self) -> None:
        """Give up both rings, which are empty."""
        self.used.close()
        self.ended.close()


class Party(Order[T]):
    """The roots that one party asked for first; `places` and `relations` are their numbers."""

    __slots__ = ("key", "places", "relations")

    def __init__(self, key: PartyKey) -> None:
        super().__init__()
        self.key = key
        self.places = 0
        self.relations = 0
