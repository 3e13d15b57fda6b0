"""Copies of one response, and answers that conflict (docs/capture.md)."""

from __future__ import annotations

from typing import Final

from dnstrail.dns.halves import Halves
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
    """The responses of at least the last tenth of a second, by a hash of their bytes and their client."""

    def __init__(self) -> None:
        self._packets: Halves[Packet] = Halves(_HELD, COPY)

    def find_or_add(self, digest: int, stamp: int) -> tuple[Packet, bool]:
        """Return the response with a hash that was captured a moment ago at any socket, else a new one; True if new."""
        packet = self._packets.get(digest)
        if packet is not None and abs(stamp - packet.stamp) <= COPY:
            return packet, False
        packet = Packet(stamp)
        self._packets.put(digest, packet, stamp)
        return packet, True


def conflicts(first: tuple[Edge, ...], second: tuple[Edge, ...]) -> bool:
    """Return whether two answers have targets, and none in common."""
    return bool(first and second and {edge[2] for edge in first}.isdisjoint(edge[2] for edge in second))
