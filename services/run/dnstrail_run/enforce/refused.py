"""The refusals of a report: what the programs refused, with the names that the command asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from dnstrail.protocol.lookups import ConnectionTo
from dnstrail_run.connections import AT_ONCE
from dnstrail_run.enforce.refusal import REACH, Attempt
from dnstrail_run.report import UNKNOWN, Program, ReachedAddress, Refusal

_TCP = "tcp"
_End = tuple[str, int, str, int]


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
    ends = [*dict.fromkeys((one.address, one.port) for one in found if one.address and not one.name)]
    known = set(asked)
    names: dict[tuple[str, int], str] = {}
    for first in range(0, len(ends), AT_ONCE):
        some = ends[first : first + AT_ONCE]
        ranked = rank([ConnectionTo(address=address, port=port) for address, port in some])
        names |= {
            end: next((name for name in of_end if name in known), "") for end, of_end in zip(some, ranked, strict=True)
        }
    return [msgspec.structs.replace(one, name=one.name or names.get((one.address, one.port), "")) for one in found]


def _refusal(attempt: Attempt, seen: ReachedAddress | None) -> Refusal:
    return Refusal(
        action=attempt.action,
        name=seen.name if seen else "",
        address=attempt.address,
        port=attempt.port,
        transport=attempt.transport,
        program=seen.program if seen else Program(attempt.pid, attempt.name, ""),
        times=attempt.times,
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
