"""Facts as the store keeps them: in wall time, within the numbers that SQLite holds."""

from __future__ import annotations

from typing import ClassVar, Final, NamedTuple

import msgspec

from dnstrail.captured import LAST_TIME, Captured, Flow, Process
from dnstrail.errors import BadMessage
from dnstrail.protocol.facts import ConnectionValues, TransactionValues, connection_values, transaction_values

_MOST: Final = (1 << 63) - 1  # the greatest integer of SQLite
_LAST_PORT: Final = (1 << 16) - 1
_SIZES: Final = (4, 16, 0)  # bytes of an address; the source may be unknown
#: place of an event in its batch, which has 1,000 at most -> the fact is refused: `bad_facts`
MOST_PLACE: Final = 4095


class FactId(NamedTuple):
    """The place of the event that began a transaction or a connection, in a batch of a start.

    The start of a connection has the topic of the event behind it.
    """

    start: str
    batch: int
    place: int

    def __str__(self) -> str:
        return f"{self.start}/{self.batch}/{self.place}"


class Fact(msgspec.Struct, frozen=True, gc=False):
    """A transaction of a host. `ended` is in ns of wall time, and `asked_for` the id in the values, if there is one."""

    stage: ClassVar[str] = ""

    id: FactId
    asked_for: FactId | None
    host: str
    ended: int
    process: Process | None
    flow: Flow | None
    values: TransactionValues

    @property
    def weight(self) -> int:
        """The space that the fact takes while it waits for a disk."""
        return 1 + len(self.values.relations)


class StageFact(msgspec.Struct, frozen=True, gc=False):
    """A stage of a connection of a host. `id` is the same for all stages, and `time` is in ns of wall time.

    Each stage states the whole connection as it was then: an end needs no opening before it.
    """

    weight: ClassVar[int] = 1

    id: FactId
    host: str
    time: int
    process: Process | None
    flow: Flow
    values: ConnectionValues

    @property
    def stage(self) -> str:
        """The stage, one of STAGES."""
        return self.values.stage


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
    ended = _wall_time(captured, difference)
    asked_for = None if values.asked_for is None else read_id(values.asked_for)
    return Fact(read_id(values.id), asked_for, host, ended, process, flow, values)


def read_stage(captured: Captured, host: str, difference: int) -> StageFact:
    """Return a stage of a connection that arrived. `difference` is wall time minus its clock in ns.

    Raises:
        BadMessage: no cache of ours sends it.
    """
    values, flow = connection_values(captured), captured.flow
    event, _, stage = values.id.rpartition("/")
    if flow is None or stage != values.stage:
        raise BadMessage(f"bad fact: id {values.id!r:.100} of stage {values.stage}")
    return StageFact(read_id(event), host, _wall_time(captured, difference), captured.process, flow, values)


def _wall_time(captured: Captured, difference: int) -> int:
    """Return the time of a fact whose numbers are within their ranges.

    Raises:
        BadMessage: no cache of ours sends it.
    """
    time, flow, process = captured.timestamp + difference, captured.flow, captured.process
    if not 0 <= time <= LAST_TIME or (flow and not _fits_flow(flow)) or (process and not _fits(process)):
        raise BadMessage("bad fact: a number is out of range")
    return time


def _fits_flow(flow: Flow) -> bool:
    ports = flow.source_port, flow.destination_port
    sizes = len(flow.source) in _SIZES and len(flow.destination) in _SIZES[:2]
    return sizes and min(ports) >= 0 and max(ports) <= _LAST_PORT and 0 <= flow.namespace <= _MOST


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
