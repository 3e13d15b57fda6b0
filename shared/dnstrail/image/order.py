"""Rings: links in the order of their last use (docs/inside/image.md)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, TypeVar, cast

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

    def first(self) -> T:
        """Return the link at the oldest place of a ring that is not empty."""
        return cast("T", self._end.newer)

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
    """Something in two rings: one of its host, and one of its party, with other neighbours there."""

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

    def close(self) -> None:
        """Give up an empty ring."""
        self._end.leave()
