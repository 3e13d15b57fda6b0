"""Rings, and the order in which query roots give up their places: of all roots, and of a party (docs/image.md)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from dnstrail.image.answer import PartyKey

T = TypeVar("T", bound="Link")
P = TypeVar("P", bound="PartyLink")


class Link:
    """Something in a ring, with its neighbours there; in no ring it has none."""

    __slots__ = ("newer", "older")

    def __init__(self) -> None:
        self.newer: Link | None = None
        self.older: Link | None = None

    def remove_link(self) -> None:
        """Take this link out of its ring, if there is one; no reference leads back to it afterwards."""
        newer, older = self.newer, self.older
        if newer is not None and older is not None:
            newer.older, older.newer = older, newer
            self.newer = self.older = None


class Ring(Generic[T]):
    """Links in the order of their last use; each step takes constant time."""

    __slots__ = ("_end",)

    def __init__(self) -> None:
        end = Link()
        self._end = end
        end.newer = end.older = end

    def append(self, link: T) -> None:
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
        """Return the link at the oldest place, None if the ring is empty."""
        link: Any = self._end.newer  # all links but the end are a T
        return None if link is self._end else link

    def second_oldest(self) -> T | None:
        """Return the link after the oldest, None if there is no other."""
        link = self._end.newer
        after: Any = None if link is None else link.newer
        return None if after is self._end else after

    def close(self) -> None:
        """Give up an empty ring: its end is its own neighbour, and this cycle would hold it in memory."""
        self._end.remove_link()

    def __iter__(self) -> Iterator[T]:
        link = self._end.newer
        while link is not None and link is not self._end:
            found: Any = link
            yield found
            link = link.newer


class PartyLink(Link):
    """Something in two rings: one of all, and one of its party, with other neighbours there."""

    __slots__ = ("newer_in_party", "older_in_party")

    def __init__(self) -> None:
        super().__init__()
        self.newer_in_party: PartyLink | None = None
        self.older_in_party: PartyLink | None = None

    def leave(self) -> None:
        """Leave both rings; no reference leads back to this link afterwards."""
        self.remove_link()
        newer, older = self.newer_in_party, self.older_in_party
        if newer is not None and older is not None:
            newer.older_in_party, older.newer_in_party = older, newer
            self.newer_in_party = self.older_in_party = None


class PartyRing(Generic[P]):
    """The ring of a party. It is a Ring of the other neighbours: a link object for each root would cost its memory."""

    __slots__ = ("_end",)

    def __init__(self) -> None:
        end = PartyLink()
        self._end = end
        end.newer_in_party = end.older_in_party = end

    def append(self, link: P) -> None:
        """Move a link to the newest place of this ring, out of the present ring of its party."""
        end = self._end
        newest, newer, older = end.older_in_party, link.newer_in_party, link.older_in_party
        if newest is link or newest is None:
            return
        if newer is not None and older is not None:
            newer.older_in_party, older.newer_in_party = older, newer
        link.older_in_party, link.newer_in_party = newest, end
        newest.newer_in_party = end.older_in_party = link

    def oldest(self) -> P | None:
        """Return the link at the oldest place, None if the ring is empty."""
        link: Any = self._end.newer_in_party
        return None if link is self._end else link

    def second_oldest(self) -> P | None:
        """Return the link after the oldest, None if there is no other."""
        link = self._end.newer_in_party
        after: Any = None if link is None else link.newer_in_party
        return None if after is self._end else after

    def close(self) -> None:
        """Give up an empty ring."""
        self._end.leave()


class Order(Generic[T]):
    """All roots in two rings: roots whose relations have all ended go first, then the least recently used."""

    __slots__ = ("ended", "used")

    def __init__(self) -> None:
        self.used = Ring[T]()
        self.ended = Ring[T]()

    def __iter__(self) -> Iterator[T]:
        yield from self.ended
        yield from self.used


class Party(Generic[P]):
    """The roots that one party asked for first, in the same order; `places` and `relations` are their numbers."""

    __slots__ = ("ended", "key", "places", "relations", "used")

    def __init__(self, key: PartyKey) -> None:
        self.key = key
        self.used = PartyRing[P]()
        self.ended = PartyRing[P]()
        self.places = 0
        self.relations = 0

    def close(self) -> None:
        """Give up both rings, which are empty."""
        self.used.close()
        self.ended.close()
