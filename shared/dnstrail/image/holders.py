"""Who holds places and relations: the hosts, the owners of a host, and the parties of an owner (docs/image.md)."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

from dnstrail.image.answer import PartyKey, ShareKey
from dnstrail.image.order import PartyLink, PartyRing, Ring

R = TypeVar("R", bound=PartyLink)

MAX_PARTIES: Final = 64  # of one owner that have shares of their own; further ones share that of the owner's own cgroup


class Holder:
    """Somebody with query roots: `places` is the number of these, and `relations` that of their relations."""

    __slots__ = ("places", "relations")

    def __init__(self) -> None:
        self.places = 0
        self.relations = 0


class Host(Holder, Generic[R]):
    """All roots of a host in two rings: roots whose relations have all ended go first, then the least recently used.

    `number` is that of no other host. `listed` states that the host is among those whose oldest roots are compared.
    """

    __slots__ = ("ended", "listed", "name", "number", "used")

    def __init__(self, name: str, number: int) -> None:
        super().__init__()
        self.name = name
        self.number = number
        self.listed = False
        self.used = Ring[R]()
        self.ended = Ring[R]()

    def close(self) -> None:
        """Give up both rings, which are empty."""
        self.used.close()
        self.ended.close()


class Party(Holder, Generic[R]):
    """The roots that one party asked for first, in the same order."""

    __slots__ = ("ended", "key", "owner", "used")

    def __init__(self, key: ShareKey, owner: Owner[R]) -> None:
        super().__init__()
        self.key = key
        self.owner = owner
        self.used = PartyRing[R]()
        self.ended = PartyRing[R]()

    def close(self) -> None:
        """Give up both rings, which are empty."""
        self.used.close()
        self.ended.close()


class Owner(Holder, Generic[R]):
    """The parties of one owner, by their numbers."""

    __slots__ = ("host", "key", "parties")

    def __init__(self, key: PartyKey, host: Host[R]) -> None:
        super().__init__()
        self.key = key
        self.host = host
        self.parties: dict[int, Party[R]] = {}

    def largest(self, answered: R, *, by_places: bool) -> Party[R] | None:
        """Return the party with most places, or with most relations; one with nothing but `answered` does not count."""
        largest, most = None, 0
        for party in self.parties.values():
            size = party.places if by_places else party.relations
            if size > most and (party.ended.oldest() is not None or party.used.oldest() is not answered):
                largest, most = party, size
        return largest
