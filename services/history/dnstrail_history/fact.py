"""A fact as the store keeps it: a transaction in wall time, within the numbers that SQLite holds."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from dnstrail.captured import LAST_TIME, Captured, Flow, Process
from dnstrail.errors import BadMessage
from dnstrail.protocol.facts import TransactionValues, transaction_values

_MOST: Final = (1 << 63) - 1  # the greatest integer of SQLite
_LAST_PORT: Final = (1 << 16) - 1
#: place of an event in its batch, which has 1,000 at most -> the fact is refused: `bad_facts`
MOST_PLACE: Final = 4095


class FactId(NamedTuple):
    """The parts of the id of a transaction: the place of the event that began it, in a batch of a start."""

    start: str
    batch: int
    place: int

    def __str__(self) -> str:
        return f"{self.start}/{self.batch}/{self.place}"


class Fact(msgspec.Struct, frozen=True, gc=False):
    """A transaction of a host. `ended` is in ns of wall time, and `asked_for` the id in the values, if there is one."""

    id: FactId
    asked_for: FactId | None
    host: str
    ended: int
    process: Process | None
    flow: Flow | None
    values: TransactionValues


def read_id(text: str) -> FactId:
    """Return the parts of an id.

    Raises:
        BadMessage: no cache of ours made it.
    """
    start, *rest = text.rsplit("/", 2)
    if len(rest) == 2 and rest[0].isdecimal() and rest[1].isdecimal() and len(rest[0]) < 19 and len(rest[1]) < 5:  # noqa: PLR2004
        found = FactId(start, int(rest[0]), int(rest[1]))
        if found.place <= MOST_PLACE and str(found) == text:
            return found
    raise BadMessage(f"bad fact: id {text!r:.100}")


def read_fact(captured: Captured, host: str, difference: int) -> Fact:
    """Return a transaction that arrived. `difference` is wall time minus its clock in ns.

    Raises:
        BadMessage: no cache of ours sends it.
    """
    values, flow, process = transaction_values(captured), captured.flow, captured.process
    ended = captured.timestamp + difference
    if not 0 <= ended <= LAST_TIME or (flow and not _fits_flow(flow)) or (process and not _fits(process)):
        raise BadMessage("bad fact: a number is out of range")
    asked_for = None if values.asked_for is None else read_id(values.asked_for)
    return Fact(read_id(values.id), asked_for, host, ended, process, flow, values)


def _fits_flow(flow: Flow) -> bool:
    ports = flow.source_port, flow.destination_port
    return min(ports) >= 0 and max(ports) <= _LAST_PORT and 0 <= flow.namespace <= _MOST


def _fits(process: Process) -> bool:
    numbers = (
        process.pid,
        process.parent_pid,
        process.user_id,
        process.thread_id,
        process.cgroup_id,
        process.mount_namespace,
        process.pid_namespace,
        process.start_time,
        process.owner,
    )
    return min(numbers) >= -_MOST and max(numbers) <= _MOST
