"""Batches of facts as a worker receives them that keeps all: each value within its type and its range."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Generic, TypeVar

import msgspec

from dnstrail.captured import Flow, Process
from dnstrail.errors import BadMessage
from dnstrail.events import DNS_TRANSACTION, NET_CONNECTION
from dnstrail.protocol.batches import Batch, decode, decode_rows, rows_decoder
from dnstrail.protocol.facts import ConnectionValues, TransactionValues, checked_values

_MOST: Final = (1 << 63) - 1
_LAST_PORT: Final = (1 << 16) - 1
_SIZES: Final = (4, 16)  # bytes of an address
_V = TypeVar("_V")


class FactArguments(msgspec.Struct, Generic[_V], frozen=True, gc=False):
    """The one argument of a fact on the bus."""

    values: _V = msgspec.field(name="")


class WireFact(msgspec.Struct, Generic[_V], frozen=True, array_like=True, gc=False):
    """A fact in its batch. `process` is an index of the table of processes, -1 if the process is unknown."""

    process: int
    timestamp: int
    payload: bytes
    flow: Flow | None
    args: FactArguments[_V]
    processor: int
    thread: int


FactRow = tuple[WireFact[_V], Process | None]
_DECODERS: Final = {
    DNS_TRANSACTION: rows_decoder(WireFact[TransactionValues]),
    NET_CONNECTION: rows_decoder(WireFact[ConnectionValues]),
}


def decode_facts(topic: str, body: bytes, refuse: Callable[[BadMessage], None]) -> tuple[Batch, list[FactRow[Any]]]:
    """Return the batch in the body of a bus message, and its facts but those that no cache of ours sends.

    `refuse` receives what is wrong with each of them. Every number of the others is less than 2^63.

    Raises:
        BadMessage: the body is no batch.
    """
    try:
        batch, rows = decode_rows(body, _DECODERS[topic])
        for process in {id(process): process for _, process in rows}.values():
            check_process(process)
        for event, _ in rows:
            check_flow(event.flow)
    except BadMessage:
        batch = decode(body, Batch)
        return batch, [*_sound(topic, batch, refuse)]
    return batch, rows


def _sound(topic: str, batch: Batch, refuse: Callable[[BadMessage], None]) -> Iterator[FactRow[Any]]:
    """Yield the facts of a batch of which some are bad."""
    for place in range(len(batch.events)):
        try:
            one = batch.events[place]
            check_process(one.process)
            check_flow(one.flow)
            args = FactArguments(checked_values(topic, one))
        except BadMessage as error:
            refuse(error)
        else:
            yield WireFact(-1, one.timestamp, b"", one.flow, args, 0, 0), one.process


def check_flow(flow: Flow | None) -> None:
    """Check the addresses and numbers of a fact.

    Raises:
        BadMessage: one is out of its range.
    """
    if flow is not None and not (
        (len(flow.source) in _SIZES or not flow.source)
        and len(flow.destination) in _SIZES
        and 0 <= flow.source_port <= _LAST_PORT
        and 0 <= flow.destination_port <= _LAST_PORT
        and 0 <= flow.namespace <= _MOST
    ):
        raise BadMessage("bad fact: an address or a port is out of range")


def check_process(process: Process | None) -> None:
    """Check the numbers of a process.

    Raises:
        BadMessage: one is out of its range.
    """
    if process is None:
        return
    numbers = _numbers(process)
    if min(numbers) < -_MOST or max(numbers) > _MOST:
        raise BadMessage("bad fact: a number of its process is out of range")


def _numbers(process: Process) -> tuple[int, ...]:
    one = process
    of_kernel = one.cgroup_id, one.mount_namespace, one.pid_namespace, one.owner
    return one.pid, one.parent_pid, one.user_id, one.thread_id, one.start_time, *of_kernel
