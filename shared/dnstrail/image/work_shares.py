"""The shares of owners in the work of an image that is behind (docs/inside/image.md)."""

from __future__ import annotations

from typing import Final

from dnstrail.dns.header import HEADER, Header
from dnstrail.image.answer import PartyKey
from dnstrail.image.bounds import SECOND

#: units of work in one second of the stream, while the cache is behind -> responses of an owner beyond its part are
#: skipped: `skipped_behind`
WORK: Final = 150_000  # a unit takes about a microsecond
LEAST: Final = WORK // 64  # units of any owner, also in a second in which all are used
MAX_SHARES: Final = 1024  # into which one share is divided; further parties have one together
_RECORD: Final = 3  # units
_ADMISSION: Final = 4  # units, which a skipped response costs, too
_UNIT: Final = 16  # bytes of one unit
_LEAST_RECORD: Final = 11  # bytes: the root, type, class, TTL and an empty RDATA
_NEVER: Final = -(1 << 61)
_Key = tuple[object, ...]
_FURTHER: Final[_Key] = ()


def cost_of(header: Header, size: int) -> int:
    """Return the cost of a response of this size, with a question: units for its records and bytes.

    It is counted before anything behind the question is read, and is the same in every cache. The work that a skipped
    response needs, too, costs nothing.
    """
    records = min(header.answer_count, (size - HEADER) // _LEAST_RECORD)
    return max(_RECORD * records + size // _UNIT - _ADMISSION, 1)


class _Share:
    """The work of one second that belongs to one share, and the shares into which it is divided."""

    __slots__ = ("before", "parts", "work")

    def __init__(self, before: _Share | None = None) -> None:
        self.work = 0
        self.parts: dict[_Key, _Share] = {}
        self.before = before  # the same share in the second before
        if before is not None:
            before.before = None

    @property
    def number(self) -> int:
        """The number of shares into which this one is divided: those of this second, or of the second before."""
        return max(len(self.parts), 0 if self.before is None else len(self.before.parts))

    def part(self, key: _Key) -> _Share:
        """Return the share of a key, and divide this one anew for a new key."""
        found = self.parts.get(key)
        if found is None and len(self.parts) >= MAX_SHARES:
            key = _FURTHER
            found = self.parts.get(key)
        if found is None:
            found = self.parts[key] = _Share(None if self.before is None else self.before.parts.get(key))
        return found


class WorkShares:
    """The work of the present second of the stream, by owner and party.

    A second has WORK units. They are divided equally among the kinds of owners of each host, a kind among its owners,
    and an owner among its parties. An owner that comes when all are used has LEAST, as long as its kind does not use
    twice its share. Stamps (ns) come with the responses; a late one counts for the present second.
    """

    def __init__(self) -> None:
        self._second = _NEVER
        self._all = _Share()

    def is_beyond(self, stamp: int, owner: PartyKey, party: PartyKey, cost: int) -> bool:
        """Return whether a response of this cost is beyond the part of its party; count it if not."""
        second = stamp // SECOND
        if second > self._second:
            self._all = _Share(self._all if second == self._second + 1 else None)
            self._second = second
        kind = self._all.part(owner[:2])
        holder = kind.part(owner)
        mine = holder.part(party)
        whole = WORK // self._all.number
        if kind.work < whole:
            beyond = mine.work + cost > whole // (kind.number * holder.number)
        else:
            beyond = holder.work + cost > LEAST or kind.work >= 2 * whole
        if beyond:
            return True
        kind.work += cost
        holder.work += cost
        mine.work += cost
        return False
