"""Facts that arrive as entries of the log: as `dnstrail log` prints them once they are stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, Final

from dnstrail.captured import LAST_TIME, Flow, Process
from dnstrail.errors import BadMessage
from dnstrail.events import DNS_TRANSACTION, OUTCOMES
from dnstrail.history.log.entries import LogEntry, LoggedConnection, LoggedQuestion
from dnstrail.process.terminal import json_line
from dnstrail.protocol.batches import Batch
from dnstrail.protocol.fact_batches import FactRow
from dnstrail.protocol.facts import HOPS, ConnectionValues, TransactionValues, type_text, whole_id, whole_stage_id
from dnstrail.registered_domain import registered_domain

_ADDRESSES: Final = 1024  # whose text is remembered
_NOBODY: Final = (0, "", "", 0, 0, "", "", "", "", "")
_NOWHERE: Final = (None, None, None, None, None)


def entries_of(
    topic: str,
    batch: Batch,
    rows: Iterable[FactRow[Any]],
    difference: int,
    refuse: Callable[[BadMessage], None],
) -> Iterator[LogEntry]:
    """Yield the entries of the facts of a batch; `refuse` receives what is wrong with others.

    `difference` is wall time minus their clock (ns). A fact at no time is left out.
    """
    make = _question if topic == DNS_TRANSACTION else _connection
    for event, process in rows:
        time = event.timestamp + difference
        if 0 <= time <= LAST_TIME:
            try:
                entry = make(time, batch.host, process, event.flow, event.args.values, batch.probe)
            except BadMessage as error:
                refuse(error)
            else:
                yield entry


def line_with_domain(entry: LogEntry) -> str:
    """Return an entry as a line of JSON, with the registered domain of its name ("" without one) as `domain`."""
    name = entry.name if isinstance(entry, LoggedQuestion | LoggedConnection) else None
    return f'{json_line(entry)[:-1]},"domain":{json_line(registered_domain(name or ""))}}}'


def _question(
    time: int, host: str, process: Process | None, flow: Flow | None, one: TransactionValues, probe: str
) -> LogEntry:
    return LoggedQuestion(
        time,
        host,
        *_asker(process),
        whole_id(one.id, probe),
        *_ends(flow),
        one.socket,
        _labels(process),
        None if one.resolver is None else _text(one.resolver),
        one.resolver_port,
        HOPS[one.hop],
        None if one.asked_for is None else whole_id(one.asked_for, probe),
        one.name,
        type_text(one.type),
        OUTCOMES[one.outcome],
        one.rcode,
        one.tries,
        one.waited,
        tuple([(owner, type_text(rdtype), target, ttl) for owner, rdtype, target, ttl in one.owned]),
        one.left_out,
        one.admitted,
        one.matched,
        one.doubted,
        one.foreign,
    )


def _connection(
    time: int, host: str, process: Process | None, flow: Flow | None, one: ConnectionValues, probe: str
) -> LogEntry:
    return LoggedConnection(
        time,
        host,
        *_asker(process),
        whole_stage_id(one, probe),
        *_ends(flow),
        one.socket,
        _labels(process),
        one.stage,
        one.name,
        one.bound,
        one.lasted,
        one.connected,
        one.error,
        one.why,
        one.bytes_sent,
        one.bytes_received,
    )


def _asker(process: Process | None) -> tuple[int, str, str, int, int, str, str, str, str, str]:
    if process is None:
        return _NOBODY
    one = process
    container, name, image = one.container_id, one.container_name, one.container_image
    return one.pid, one.name, one.path, one.parent_pid, one.user_id, container, name, image, one.unit, one.slice


def _labels(process: Process | None) -> dict[str, str]:
    return {} if process is None else dict(process.container_labels)


def _ends(flow: Flow | None) -> tuple[str | None, str | None, int | None, int | None, str | None]:
    if flow is None:
        return _NOWHERE
    source = _text(flow.source) if flow.source else None
    return (
        source,
        _text(flow.destination),
        flow.source_port if source else None,
        flow.destination_port,
        flow.transport,
    )


@lru_cache(_ADDRESSES)
def _text(address: bytes) -> str:
    return str(ip_address(address))
