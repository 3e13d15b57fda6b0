"""The refusals of the programs: as the launcher reports them, and as the report names them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from dnstrail.protocol.lookups import ConnectionTo
from dnstrail_run.report import UNKNOWN, Conflict, Program, ReachedAddress, Refusal

_TCP = "tcp"
_End = tuple[str, int, str, int]
ACTIONS = REACH, BIND, SOCKET = ("reach", "bind", "socket")  # as `enum action` of the programs
ASK, STATE = "ask", "state"
# Why a question is refused, or the name that a connection states, as `enum reason` of the programs.
REASONS = _, UNREADABLE, NAME, TYPE, RESOLVER, UNSTATED, OTHER = (
    "",
    "unreadable",
    "name",
    "type",
    "resolver",
    "unstated",
    "other",
)
_TRANSPORTS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp", 136: "udplite", 262: "mptcp"}
_RAW = 3  # SOCK_RAW


class Attempt(msgspec.Struct, frozen=True):
    """What one process tried under one name of it, and how often.

    `action` is one of ACTIONS; ASK with the name that was asked, the type and the reason (one of REASONS); or STATE
    with the name that a connection stated, and the reason. `address` is "" for a socket that was not made.
    """

    action: str
    address: str
    port: int
    transport: str
    pid: int
    name: str
    times: int
    asked: str = ""
    type: str = ""
    reason: str = ""


class Ancestor(msgspec.Struct, frozen=True):
    """A process: its number, and its name."""

    pid: int
    name: str


class First(msgspec.Struct, frozen=True):
    """An attempt that was refused for the first time, its time (epoch), and the parents of its process in order."""

    attempt: Attempt
    time: float
    parents: list[Ancestor]


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
    queue_full: int = 0

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
            "{} questions were refused unasked, since too many names waited for a verdict.": self.queue_full,
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


def refusals(attempts: Iterable[Attempt], connections: Iterable[ReachedAddress]) -> list[Refusal]:
    """Return the refusals, each with the name and the program of its connection event, where the probe saw one."""
    seen: dict[_End, ReachedAddress] = {}
    for one in connections:
        seen.setdefault(_end_of(one), one)
    return [_refusal(attempt, seen.get(_end_tried(attempt))) for attempt in attempts]


def without_refused(attempts: Iterable[Attempt], connections: Iterable[ReachedAddress]) -> list[ReachedAddress]:
    """Return the connections without the attempts that were refused: the probe sees these begin, and never end."""
    left: dict[_End, int] = {}
    for attempt in attempts:
        end = _end_tried(attempt)
        left[end] = left.get(end, 0) + attempt.times
    return [reduced for one in connections if (reduced := _reduced(one, left)).results]


def with_names(
    found: list[Refusal], rank: Callable[[list[ConnectionTo]], list[list[str]]], asked: Iterable[str]
) -> list[Refusal]:
    """Return refusals with names: of an address without one, the likeliest name that the command asked."""
    ends = [*dict.fromkeys((one.address, one.port) for one in found if _lacks_name(one))]
    known = set(asked)
    ranked = rank([ConnectionTo(address=address, port=port) for address, port in ends])
    names = {
        end: next((name for name in of_end if name in known), "") for end, of_end in zip(ends, ranked, strict=True)
    }
    return [
        msgspec.structs.replace(one, name=names.get((one.address, one.port), "")) if _lacks_name(one) else one
        for one in found
    ]


def _lacks_name(refusal: Refusal) -> bool:
    return bool(refusal.address) and not refusal.name and refusal.action != ASK


def _refusal(attempt: Attempt, seen: ReachedAddress | None) -> Refusal:
    return Refusal(
        action=attempt.action,
        name=attempt.asked or (seen.name if seen else ""),
        address=attempt.address,
        port=attempt.port,
        transport=attempt.transport,
        program=seen.program if seen else Program(attempt.pid, attempt.name, ""),
        times=attempt.times,
        type=attempt.type,
        reason=attempt.reason,
    )


def _reduced(reached: ReachedAddress, left: dict[_End, int]) -> ReachedAddress:
    """Return a connection less the attempts that are `left` to be taken from it."""
    end = _end_of(reached)
    taken = min(left.get(end, 0), reached.results.get(UNKNOWN, 0)) if reached.transport == _TCP else 0
    if not taken:
        return reached
    left[end] -= taken
    results = {result: count - taken * (result == UNKNOWN) for result, count in reached.results.items()}
    return msgspec.structs.replace(
        reached,
        results={result: count for result, count in results.items() if count},
        bytes_unknown=max(0, reached.bytes_unknown - taken),
    )


def _end_of(reached: ReachedAddress) -> _End:
    return reached.address, reached.port, reached.transport, reached.program.pid


def _end_tried(attempt: Attempt) -> _End:
    return attempt.address, attempt.port, attempt.transport if attempt.action == REACH else "", attempt.pid
