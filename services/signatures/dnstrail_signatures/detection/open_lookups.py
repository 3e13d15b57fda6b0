"""Open lookups: the questions of one asker for one name are one lookup, which is reported once, with its outcome."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from dnstrail.captured import GETADDRINFO, LAST_TIME, SERVER
from dnstrail.dns.header import outcome_of_rcode
from dnstrail.dns.rdata import AAAA, CNAME, A
from dnstrail.events import Event, Question
from dnstrail_signatures.detection.bounded_state import BoundedTable
from dnstrail_signatures.detection.subjects import actor_of_client

PENDING: Final = "pending"  # the outcome of a lookup without an answer
#: lookups of watched names that wait for an answer, or were reported within the last 30 s -> the lookup used longest
#: ago is reported as `pending`: `evicted`
MOST_LOOKUPS: Final = 4096
#: queries without an answer of one such lookup -> the oldest is forgotten: its answer does not end the lookup
MOST_QUERIES: Final = 16
_SECOND: Final = 1_000_000_000
_PATIENCE: Final = 5 * _SECOND  # until a lookup without an answer is reported
_KEPT: Final = 30 * _SECOND  # after its last query: until then, a retry and a late answer belong to a lookup
_PAUSE: Final = _SECOND // 2  # between two looks at all lookups
_LONGEST: Final = 512  # bytes of a message that are kept: a question has at most 271


@dataclass(slots=True)
class OpenLookup:
    """A lookup: its first event, the watched name to which it leads, and its queries without an answer.

    `asked` and `tried` are the times of its first and last query (ns, on the clock of the probe). A lookup that begins
    with an answer, since its question was not seen or is not watched, is `unseen`.
    """

    key: Hashable
    event: Event
    watched: str
    asked: int
    tried: int
    outcome: str = PENDING
    reported: bool = False
    unseen: bool = False
    queries: dict[tuple[bytes, int], None] = field(default_factory=dict)  # by id and type
    ended: set[int] = field(default_factory=set)  # the types that were answered

    def takes(self, query: tuple[bytes, int], at: int) -> bool:
        """Return whether a query belongs to this lookup: a retry, or another type soon after the first query."""
        return query in self.queries or (at - self.asked < _PATIENCE and query[1] not in self.ended)

    def ask(self, query: tuple[bytes, int], at: int) -> None:
        """Note a query."""
        self.queries[query] = None
        self.tried = at
        if len(self.queries) > MOST_QUERIES:
            del self.queries[next(iter(self.queries))]

    def awaits(self, event: Event, question: Question) -> bool:
        """Return whether a response ends a query of this lookup."""
        return _query(event, question) in self.queries or (bool(self.queries) and GETADDRINFO in event.captured.args)

    def holds(self, event: Event, question: Question) -> bool:
        """Return whether a response that ends no query belongs to this lookup; a repeated type begins another one."""
        repeated = self.unseen and question.type in self.ended
        return event.captured.timestamp - self.asked < _PATIENCE and not repeated

    def end(self, event: Event, question: Question) -> None:
        """End the query of a response."""
        self.queries.pop(_query(event, question), None)
        self.ended.add(question.type)


class OpenLookups:
    """The lookups of watched names, at most MOST_LOOKUPS of them.

    `report` receives each one that has no answer after five seconds, or that gives way at the bound before. A lookup
    is kept until 30 seconds after its last query, so that a retry or a late answer leads to no second report.
    """

    def __init__(self, report: Callable[[OpenLookup], None]) -> None:
        self.table: BoundedTable[Hashable, OpenLookup] = BoundedTable(MOST_LOOKUPS)
        self._report = report
        self._due: dict[str, int] = {}  # by start: nothing is to be done before

    def ask(self, event: Event, question: Question, watched: str) -> None:
        """Note a query for a watched name."""
        query, at, known = _query(event, question), event.captured.timestamp, self.of(event, question)
        if known is None or not known.takes(query, at):
            known = self._begin(OpenLookup(_key(event, question), _cut(event), watched, at, at))
        known.ask(query, at)

    def answer(self, event: Event, question: Question, watched: str) -> OpenLookup:
        """Begin a lookup by its answer, which is reported, and return it."""
        at, key = event.captured.timestamp, _key(event, question)
        lookup = OpenLookup(key, _cut(event), watched, at, at, reported=True, unseen=True, ended={question.type})
        return self._begin(lookup)

    def of(self, event: Event, question: Question) -> OpenLookup | None:
        """Return the lookup of an asker for a name, or None."""
        return self.table.get(_key(event, question))

    def pass_time(self, start: str, now: int) -> None:
        """Report the lookups of a start that wait too long at a time (ns), and forget those that are over."""
        if now < self._due.get(start, LAST_TIME):
            return
        due = LAST_TIME
        for lookup in [one for one in self.table.values() if _start(one.event) == start]:
            if now - lookup.asked >= _PATIENCE:
                self._give_up(lookup)
            if now - lookup.tried >= _KEPT:
                self.table.pop(lookup.key)
            else:
                due = min(due, lookup.tried + _KEPT if lookup.reported else lookup.asked + _PATIENCE)
        self._due.pop(start, None)
        if due < LAST_TIME:
            self._due[start] = max(due, now + _PAUSE)

    def close(self) -> None:
        """Report all lookups that wait."""
        for lookup in [*self.table.values()]:
            self._give_up(lookup)

    def _begin(self, lookup: OpenLookup) -> OpenLookup:
        for ended in (self.table.pop(lookup.key), self.table.put(lookup.key, lookup)):
            if ended is not None:
                self._give_up(ended)
        start = _start(lookup.event)
        self._due[start] = min(self._due.get(start, LAST_TIME), lookup.asked + _PATIENCE)
        return lookup

    def _give_up(self, lookup: OpenLookup) -> None:
        if not lookup.reported:
            lookup.reported = True
            self._report(lookup)


def _cut(event: Event) -> Event:
    """Return an event with the beginning of its message, which is kept."""
    return replace(event, captured=msgspec.structs.replace(event.captured, payload=event.captured.payload[:_LONGEST]))


def _query(event: Event, question: Question) -> tuple[bytes, int]:
    return event.captured.payload[:2], question.type


def _start(event: Event) -> str:
    return event.time[0] if event.time else ""


def _key(event: Event, question: Question) -> Hashable:
    """Return the asker of a name and the name: the process, else the client, of one run of a probe."""
    captured, process = event.captured, event.process
    if process.pid and event.role != SERVER:
        return _start(event), process.pid, process.start_time, question.name
    return _start(event), actor_of_client(captured.flow, captured.payload, event.host_name), question.name


ANSWERED: Final = "answered"
NXDOMAIN: Final = "NXDOMAIN"
TRUNCATED: Final = "truncated"
_RCODE, _TC = 0x0F, 0x02  # RFC 1035, section 4.1.1


def outcome_of(event: Event, question: Question) -> str:
    """Return the outcome of a response: `answered` if it has data of the type of its question."""
    header, kinds = event.captured.payload[:12], [record.type for record in event.answers]
    rcode, count = header[3] & _RCODE, int.from_bytes(header[6:8])
    if rcode:
        return outcome_of_rcode(rcode)
    if question.type in kinds or (question.type not in (A, AAAA) and count > kinds.count(CNAME)):
        return ANSWERED
    return TRUNCATED if header[2] & _TC else outcome_of_rcode(rcode)
