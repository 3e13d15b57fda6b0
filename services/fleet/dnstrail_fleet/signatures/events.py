"""The events of the signatures of the fleet: relations that a host sent first, and those that connections used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from dnstrail.captured import Captured, Process
from dnstrail.dns.names import address_text
from dnstrail.events import Event
from dnstrail.events.specification import Field
from dnstrail.protocol.facts import type_text
from dnstrail.registered_domain import registered_domain
from dnstrail_fleet.log.contract import StreamEntry
from dnstrail_fleet.row import AskerRows, CheckedEntry, FleetRow

DNS_RELATION_NEW: Final = "dns_relation_new"
DNS_RELATION_USED: Final = "dns_relation_used"
EVENT_IDS: Final = {DNS_RELATION_NEW: 7009, DNS_RELATION_USED: 7010}  # beside those of dnstrail.events
FIELDS: Final = (
    Field("question", "const char*", "the name that was asked, or the address of a reverse question"),
    Field("owner", "const char*", "the owner of the relation"),
    Field("type", "const char*", "the type of the relation, such as A"),
    Field("target", "const char*", "the name or the address to which the owner leads"),
    Field("first", "u64", "seconds since the epoch: the first answer of the day"),
    Field("last", "u64", "seconds since the epoch: the last answer of the day"),
    Field("count", "u64", "answers of the day"),
    Field("doubted", "u64", "answers of the day that may be forged"),
    Field("used", "u64", "seconds since the epoch: the last connection to the target by the question, or 0"),
)
_SECOND: Final = 1_000_000_000  # ns


def events_of(entry: StreamEntry, checked: CheckedEntry) -> Iterator[Event]:
    """Yield an event for each row of an entry that its host did not send before, and for its first connection.

    An entry that comes again has the same events with the same ids. Times are corrected by the engine's time.
    """
    number = 0
    for asker in checked.entry.askers:
        process = _process_of(asker)
        for row in asker.rows:
            number += 1
            if not row.known:
                yield _event(DNS_RELATION_NEW, entry, row, process, number, checked.shift)
            if row.used and not row.reused:
                yield _event(DNS_RELATION_USED, entry, row, process, number, checked.shift)


def domain_of(question: str) -> str:
    """Return the registered domain of a question; "" for an address, and for a name without one."""
    return "" if address_text(question) is not None else registered_domain(question)


def _event(name: str, entry: StreamEntry, row: FleetRow, process: Process, number: int, shift: int) -> Event:
    first, last, used = row.first + shift, row.last + shift, row.used and row.used + shift
    values = row.question, row.owner or row.question, type_text(row.type), row.target, first, last, row.count
    return Event(
        name,
        Captured(max(first, 0) * _SECOND, process=process),
        mark=(f"{entry.host}/{entry.id}", number),
        host_name=entry.host,
        args=dict(zip((field.name for field in FIELDS), (*values, row.doubted, used), strict=True)),
        place=(name, number),
    )


def _process_of(asker: AskerRows) -> Process:
    program, container = asker.program, asker.container
    path = program if "/" in program else ""
    return Process(0, program.rpartition("/")[2], path, 0, 0, container, 0, 0, container, asker.image)
