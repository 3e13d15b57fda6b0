"""Who holds places and relations: hosts, the owners of a host, and the parties of an owner (docs/inside/image.md)."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

from dnstrail.image.answer import PartyKey, ShareKey
from dnstrail.image.order import PartyLink, PartyRing, Ring

R = TypeVar("R", bound=PartyLink)

#: parties of one owner that have shares of their own -> further ones share the part of the owner's own cgroup
MAX_PARTIES: Final = 64
ALONE: Final = 0  # nobody but the owner of a root asked for it
OWNERS: Final = 1  # another owner on the same host asked for it, too
HOSTS: Final = 2  # another host asked for it, too


class Holder:
    """Somebody with query roots: `places` is the number of these, and `relations` that of their relations."""

    __slots__ = ("places", "relations")

    def __init__(self) -> None:
        self.places = 0
        self.relations = 0


class Uses(Ring[R]):
    """Roots that have not ended, in the order of their last use.

    `number` is that of no other. `listed` states that the ring is among those whose oldest roots are compared.
    """

    __slots__ = ("listed", "number")

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self.listed = False


class HostPlaces(Holder, Generic[R]):
    """All roots of a host: those that have ended, those that no other host asked for, and the others (`shared`)."""

    __slots__ = ("ended", "name", "shared", "used")

    def __init__(self, name: str, number: int) -> None:
        super().__init__()
        self.name = name
        self.ended = Ring[R]()
        self.used = Uses[R](number)
        self.shared = Uses[R](-number)

    def next(self, answered: R) -> R | None:
        """Return the root that this host gives up next, None if that is `answered` and live, or there is none."""
        return self.ended.oldest() or older(self.used.oldest(), answered) or older(self.shared.oldest(), answered)

    def close(self) -> None:
        """Give up all rings, which are empty."""
        self.ended.close()
        self.used.close()
        self.shared.close()


class Party(Holder, Generic[R]):
    """The roots that one party asked for first, likewise; `shared` are those that another owner asked for, too."""

    __slots__ = ("ended", "key", "owner", "shared", "used")

    def __init__(self, key: ShareKey, owner: Owner[R]) -> None:
        super().__init__()
        self.key = key
        self.owner = owner
        self.ended = PartyRing[R]()
        self.used = PartyRing[R]()
        self.shared = PartyRing[R]()

    def next(self, answered: R) -> R | None:
        """Return the root that this party gives up next, None if that is `answered` and live, or there is none."""
        return self.ended.oldest() or older(self.used.oldest(), answered) or older(self.shared.oldest(), answered)

    def close(self) -> None:
        """Give up all rings, which are empty."""
        self.ended.close()
        self.used.close()
        self.shared.close()


class Owner(Holder, Generic[R]):
    """The parties of one owner, by their numbers."""

    __slots__ = ("host", "key", "parties")

    def __init__(self, key: PartyKey, host: HostPlaces[R]) -> None:
        super().__init__()
        self.key = key
        self.host = host
        self.parties: dict[int, Party[R]] = {}

    def largest(self, answered: R, *, by_places: bool) -> Party[R] | None:
        """Return the party with most places, or with most relations, of those that have a root to give up."""
        largest, most = None, 0
        for party in self.parties.values():
            size = party.places if by_places else party.relations
            if size > most and party.next(answered) is not None:
                largest, most = party, size
        return largest


def older(root: R | None, answered: R) -> R | None:
    """Return the oldest root of a ring, None if that was answered just now: then the ring has no other."""
    return None if root is answered else root
