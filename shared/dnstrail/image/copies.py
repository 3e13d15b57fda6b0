"""Copies of one response, and answers that conflict (docs/inside/image.md)."""

from __future__ import annotations

from typing import Final

from dnstrail.dns.recent import Recent
from dnstrail.image.answer import Edge
from dnstrail.image.queries import COPY, Key

_HELD: Final = 32768  # responses in one half of the table


class Packet:
    """One response. Several copies of it may be captured.

    `stamp` is the stamp of the first copy. `ended` contains the keys of the queries whose wait a copy ended, one for
    each socket. `kept` states that a copy was admitted, and `edges` contains its relations.
    """

    __slots__ = ("edges", "ended", "kept", "stamp")

    def __init__(self, stamp: int) -> None:
        self.stamp = stamp
        self.ended: tuple[Key, ...] = ()
        self.kept = False
        self.edges: tuple[Edge, ...] = ()


class Copies:
    """The responses of at least the last tenth of a second, by a hash of their bytes and their client.

    The older half of them is replaced when the younger half is older than COPY, or has _HELD responses.
    """

    def __init__(self) -> None:
        self._until = 0
        self._held = Recent[int, Packet](_HELD)

    def __len__(self) -> int:
        return len(self._held)

    def find_or_add(self, digest: int, stamp: int) -> tuple[Packet, bool]:
        """Return the response with a hash that was captured a moment ago at any socket, else a new one; True if new."""
        packet = self._held.get(digest)
        if packet is not None and abs(stamp - packet.stamp) <= COPY:
            return packet, False
        if stamp > self._until:
            self._held.replace()
            self._until = stamp + COPY
        packet = Packet(stamp)
        if self._held.add(digest, packet):
            self._until = stamp + COPY
        return packet, True


def conflicts(first: tuple[Edge, ...], second: tuple[Edge, ...]) -> bool:
    """Return whether two answers have targets, and none in common."""
    return bool(first and second and {edge[2] for edge in first}.isdisjoint(edge[2] for edge in second))
