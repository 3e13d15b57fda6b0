"""What the programs refused, as the launcher reports it."""

from __future__ import annotations

import msgspec

from dnstrail_run.report import Conflict

ACTIONS = REACH, BIND, SOCKET = ("reach", "bind", "socket")  # as `enum action` of the programs
_TRANSPORTS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp", 136: "udplite", 262: "mptcp"}
_RAW = 3  # SOCK_RAW


class Attempt(msgspec.Struct, frozen=True):
    """What one process tried under one name of it, and how often.

    `action` is one of ACTIONS. `address` is "" for a socket that was not made.
    """

    action: str
    address: str
    port: int
    transport: str
    pid: int
    name: str
    times: int


class Limits(msgspec.Struct, frozen=True):
    """What exceeded the bounds of the programs, as `enum counter` orders it."""

    no_room: int = 0
    not_read: int = 0
    unlisted: int = 0
    not_asked: int = 0
    elsewhere: int = 0
    forgotten: int = 0
    unnamed: int = 0
    routed: int = 0

    @property
    def notes(self) -> list[str]:
        """What that means for the command, in sentences."""
        found = {
            "{} addresses of allowed names found no room: connections to them were refused.": self.no_room,
            "{} answers were not read to their end: connections to their last addresses were refused.": self.not_read,
            "{} further refusals found no room in this report.": self.unlisted,
            "{} answers about allowed names answered no remembered question: they led nowhere.": self.not_asked,
            "{} packets in the name of a resolver came from another interface than that of its route: they led "
            "nowhere.": self.elsewhere,
            "{} addresses of conflicting answers were forgotten: from then on no name led anywhere.": self.forgotten,
            "{} further answers conflicted: their addresses were refused.": self.unnamed,
            "{} packets with a source route were refused.": self.routed,
        }
        return [text.format(count) for text, count in found.items() if count]


class Outcome(msgspec.Struct, frozen=True):
    """What an enforcement did."""

    attempts: list[Attempt] = []
    conflicts: list[Conflict] = []
    limits: Limits = Limits()


def transport_of(protocol: int, kind: int) -> str:
    """Return the name of a transport; "raw" for a raw socket of any protocol."""
    return "raw" if kind == _RAW else _TRANSPORTS.get(protocol, f"protocol {protocol}")
