"""Facts as the store keeps them: in wall time, within the numbers that SQLite holds."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, ClassVar, Final, NamedTuple

import msgspec

from dnstrail.captured import LAST_TIME, Flow, Process
from dnstrail.errors import BadMessage
from dnstrail.protocol.fact_batches import FactRow
from dnstrail.protocol.facts import ConnectionValues, EventPlace, TransactionValues

LOADED: Final = "file-"  # the begin of the start of a loaded file
_DIGITS: Final = 18  # of the number of a batch, which is less than 2^63
_BATCHES: Final = 256  # whose text is remembered: facts of one batch are mostly of one batch of events
#: place of an event in its batch, which has 1,000 at most -> the fact is refused: `bad_facts`
MOST_PLACE: Final = 4095
_PLACES: Final = {str(place): place for place in range(MOST_PLACE + 1)}


class FactId(NamedTuple):
    """The place of the event that began a transaction or a connection, in a batch of a start.

    The start of a connection has the topic of the event behind it.
    """

    start: str
    batch: int
    place: Annotated[int, msgspec.Meta(ge=0, le=MOST_PLACE)]

    @property
    def is_loaded(self) -> bool:
        """Whether the fact is of a loaded file."""
        return self.start.startswith(LOADED)

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
    def time(self) -> int:
        """The time of its end."""
        return self.ended

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
    batch, _, place = text.rpartition("/")
    try:
        return FactId(*_batch_of(batch), _PLACES[place])
    except LookupError as error:
        raise BadMessage(f"bad fact: id {text!r:.100}") from error


@lru_cache(_BATCHES)
def _batch_of(text: str) -> tuple[str, int]:
    """Return a start and the number of a batch.

    Raises:
        LookupError: it is no batch of an event.
    """
    start, slash, batch = text.rpartition("/")
    if not slash or not batch.isdecimal() or len(batch) > _DIGITS or str(int(batch)) != batch:
        raise LookupError(text)
    return start, int(batch)


def read_fact(row: FactRow[TransactionValues], host: str, difference: int, probe: str = "") -> Fact:
    """Return a transaction that arrived. `difference` is wall time minus its clock in ns.

    `probe` is the start to which its batch refers.

    Raises:
        BadMessage: no cache of ours sends it.
    """
    event, process = row
    values = event.args.values
    asked_for = None if values.asked_for is None else _id_of(values.asked_for, probe)
    time = _wall_time(event.timestamp, difference)
    return Fact(_id_of(values.id, probe), asked_for, host, time, process, event.flow, values)


def read_stage(row: FactRow[ConnectionValues], host: str, difference: int, probe: str = "") -> StageFact:
    """Return a stage of a connection that arrived. `difference` is wall time minus its clock in ns.

    `probe` is the start to which its batch refers.

    Raises:
        BadMessage: no cache of ours sends it.
    """
    event, process = row
    values, flow = event.args.values, event.flow
    stated = values.id
    if isinstance(stated, str):
        place, _, stage = stated.rpartition("/")
        identity = read_id(place)
    else:
        identity, stage = _id_of(stated[1:], probe and f"{probe}/{stated[0]}"), values.stage
    if flow is None or stage != values.stage:
        raise BadMessage(f"bad fact: id {stated!r:.100} of stage {values.stage}")
    return StageFact(identity, host, _wall_time(event.timestamp, difference), process, flow, values)


def _id_of(event: EventPlace, start: str) -> FactId:
    """Return the id that names an event, of this start if it is no text.

    Raises:
        BadMessage: no cache of ours made it.
    """
    if isinstance(event, str):
        return read_id(event)
    batch, place = event
    if place > MOST_PLACE or not start:
        raise BadMessage(f"bad fact: id {event!r:.100}")
    return FactId(start, batch, place)


def _wall_time(stamp: int, difference: int) -> int:
    """Return a time of the clock of a start in wall time.

    Raises:
        BadMessage: it is out of range.
    """
    time = stamp + difference
    if not 0 <= time <= LAST_TIME:
        raise BadMessage("bad fact: its time is out of range")
    return time
