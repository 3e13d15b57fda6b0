"""The transactions of a dump of a cache, to be loaded into the history."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

import dns.rdatatype

from dnstrail.captured import LAST_TIME, Flow
from dnstrail.errors import BadMessage, SettingsError
from dnstrail.events import OUTCOMES
from dnstrail.history.fact import MOST_PLACE, Fact, FactId
from dnstrail.image.bounds import SECOND
from dnstrail.image.evidence import Evidence
from dnstrail.image.facts.transaction import ANSWERED, NO_DATA, OF_CLIENT, SERVED
from dnstrail.image.relate import MAX_TTL
from dnstrail.image.saved import SavedRecord
from dnstrail.protocol.fact_batches import check_flow, check_process
from dnstrail.protocol.facts import HOPS, TransactionValues, without_owners
from dnstrail_cli.lookups.dump import read_dump, rrname
from dnstrail_cli.progress import ReadProgress

_AT_ONCE: Final = 1024  # facts that are stored at once
_ALIAS: Final = int(dns.rdatatype.CNAME)
_LAST_TYPE: Final = (1 << 16) - 1


class _Held(NamedTuple):
    """An answer of a record, by its number in the cache. `ends` are those of its relations (ns). `line` is its line."""

    number: int
    stamp: int
    ends: tuple[int, ...]
    evidence: Evidence
    record: SavedRecord
    line: int


def is_dump(file: str) -> bool:
    """Return whether a file is a dump, and no capture: its lines are JSON.

    Raises:
        OSError: It cannot be read.
    """
    with open(file, "rb") as content:  # noqa: PTH123 - as the command line names it
        return content.read(1) == b"{"


def facts_of_dump(dump: BinaryIO, start: str, progress: ReadProgress) -> Iterator[list[Fact]]:
    """Yield the answers that a cache held as transactions, in the order of their arrival.

    The older answers of a record, of which the cache holds a sum alone, count as the last one of them.

    Raises:
        SettingsError: A line is no record of a dump, or states what no cache holds.
    """
    held: list[_Held] = []
    for line, record in enumerate(read_dump(dump), 1):
        progress.tick()
        if record.total is not None:
            total = record.total
            held.append(_Held(total.number, total.stamp, total.ends, total.evidence, record, line))
        for one in record.answers:
            ends = tuple(one.stamp + life for life in one.lives)
            held.append(_Held(one.number, one.stamp, ends, one.evidence, record, line))
    for answer in held:
        _check(answer)
    held.sort(key=lambda one: one.number)
    for first in range(0, len(held), _AT_ONCE):
        yield [_fact_of(one, start, number) for number, one in enumerate(held[first : first + _AT_ONCE], first)]


def _check(held: _Held) -> None:
    """Check the values of an answer, as those of a fact that arrives.

    Raises:
        SettingsError: One is out of its range.
    """
    try:
        check_process(held.evidence.process)
        check_flow(_flow_of(held.evidence))
    except BadMessage as error:
        raise SettingsError(f"line {held.line}: {error}") from error
    life = max(held.ends) - max(held.stamp, 0)
    if held.stamp > LAST_TIME or not 0 <= held.evidence.type <= _LAST_TYPE or life > MAX_TTL * SECOND:
        raise SettingsError(f"line {held.line}: a time, a life or a type is out of range")


def _flow_of(evidence: Evidence) -> Flow | None:
    return Flow(evidence.client, 0, evidence.server, 0) if evidence.client and evidence.server else None


def _fact_of(held: _Held, start: str, number: int) -> Fact:
    record, evidence = held.record, held.evidence
    identity, name = FactId(start, *divmod(number, MOST_PLACE + 1)), rrname(record.question)
    lives = (max(end - max(held.stamp, 0), 0) // SECOND for end in held.ends)
    relations = [(*edge, life) for edge, life in zip(record.edges, lives, strict=True)]
    is_alias_alone = evidence.type != _ALIAS and all(kind == _ALIAS for _, kind, _ in record.edges)
    values = TransactionValues(
        id=str(identity),
        transport=None,
        socket=None,
        resolver=None,
        resolver_port=None,
        hop=HOPS.index(OF_CLIENT if evidence.process is not None else SERVED),
        asked_for=None,
        name=name,
        type=evidence.type,
        outcome=OUTCOMES.index(NO_DATA if is_alias_alone else ANSWERED),
        rcode=0,
        tries=1,
        waited=None,
        relations=tuple(without_owners(name, relations)),
        admitted=True,
        matched=evidence.matched,
        doubted=record.doubted or None,
        foreign=evidence.foreign,
    )
    flow = _flow_of(evidence)
    return Fact(identity, None, evidence.host, max(held.stamp, 0), evidence.process, flow, values)
