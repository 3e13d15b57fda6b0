"""A finding as it arrives: the map in tracee's shape, and typed values of it for the formats."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any, NamedTuple

import msgspec

from dnstrail.errors import BadMessage
from dnstrail.protocol.event_table import refuse_extension
from dnstrail_findings.cause import Cause, values_of

#: bytes of a finding with all records of its DNS message -> the records are left out
LONG = 256 << 10
_TRIGGER = "triggeredBy"
_NO_RECORDS: dict[str, list[Any]] = {"answers": [], "authorities": [], "additionals": []}
_MOST = (1 << 63) - 1  # ns since the epoch: the year 2262
_TO_SECONDS = len("2026-01-01T00:00:00")  # of a time in ISO 8601
_unpack = msgspec.msgpack.Decoder(dict[str, Any], ext_hook=refuse_extension).decode
_Time = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]


class Container(msgspec.Struct, frozen=True):
    """A container; a value that is not known is "", and labels are those that the probe reads."""

    id: str = ""
    name: str = ""
    image: str = ""
    labels: dict[str, str] = {}


class Mark(msgspec.Struct, frozen=True):
    """The moment of the event that led to a finding: start and turn of its probe, and the time on the probe's clock."""

    start: str
    turn: int
    time: int


class _Executable(msgspec.Struct, frozen=True):
    path: str = ""


class _Argument(msgspec.Struct, frozen=True):
    name: str
    value: Any = None


class _Metadata(msgspec.Struct, frozen=True, rename="pascal"):
    version: str = ""
    description: str = ""
    properties: dict[str, Any] = {}


class Shape(msgspec.Struct, frozen=True, rename="camel"):
    """The fields of tracee's map that the formats read."""

    timestamp: _Time
    event_name: str
    process_id: int = 0
    thread_id: int = 0
    parent_process_id: int = 0
    user_id: int = 0
    process_name: str = ""
    host_name: str = ""
    executable: _Executable = _Executable()
    container: Container = Container()
    unit: str = ""
    slice: str = ""
    args: list[_Argument] = []
    metadata: _Metadata | None = None
    coverage: float | None = None
    finding_id: str = ""
    since: _Time | None = None
    mark: Mark | None = None


class LineSource(NamedTuple):
    """What a line of an output is about. `timestamp` is in ns since the epoch; an unknown text is ""."""

    id: str
    timestamp: int
    event: str
    host: str
    severity: int | None = None  #: in tracee's scale (0 to 3)


@dataclass(frozen=True)
class ReceivedFinding:
    """A finding: `map` is what arrived, `shape` its typed values, and `explained` what the worker adds."""

    map: dict[str, Any]
    shape: Shape
    explained: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The id by which a second report of the finding is known; "" for an event without one."""
        return self.shape.finding_id

    @cached_property
    def properties(self) -> dict[str, Any]:
        """The properties of the signature."""
        return self.shape.metadata.properties if self.shape.metadata else {}

    @property
    def source(self) -> LineSource:
        """What each line of the finding is about."""
        shape = self.shape
        return LineSource(self.id, shape.timestamp, shape.event_name, shape.host_name, self.severity)

    def text_of(self, name: str) -> str:
        """Return a property that is text, else ""."""
        value = self.properties.get(name)
        return value if isinstance(value, str) else ""

    @property
    def severity(self) -> int | None:
        """The severity in tracee's scale (0 to 3); None if the signature states none."""
        value = self.properties.get("Severity")
        return value if isinstance(value, int) and value in range(4) else None

    @property
    def signature_id(self) -> str:
        """The id of the signature, else the name of the event."""
        return self.text_of("signatureID") or self.shape.event_name

    @property
    def title(self) -> str:
        """The name of the signature, else the name of the event."""
        return self.text_of("signatureName") or self.shape.event_name

    @cached_property
    def data(self) -> dict[str, Any]:
        """The data of the signature."""
        return {argument.name: argument.value for argument in self.shape.args if argument.name != _TRIGGER}

    @cached_property
    def cause(self) -> Cause:
        """The event that led to the finding. An event of the cache is its own cause."""
        for argument in self.shape.args:
            if argument.name == _TRIGGER and isinstance(argument.value, dict):
                return Cause(str(argument.value.get("name", "")), values_of(argument.value.get("args")))
        return Cause(self.shape.event_name, self.data)


def read_finding(body: bytes) -> ReceivedFinding | None:
    """Return a finding, or None for a signal, which is none.

    Raises:
        BadMessage: The bytes are no finding.
    """
    try:
        found = _as_json(_unpack(body))
        if "signal" in found:
            return None
        if len(body) > LONG:
            _shorten(found)
        return ReceivedFinding(found, msgspec.convert(found, Shape))
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise BadMessage(f"no finding: {error}") from error


def _as_json(value: Any) -> Any:
    """Return a value as JSON has it: MessagePack also has bytes, NaN, and keys that are no text."""
    return msgspec.json.decode(msgspec.json.encode(value))


def _shorten(found: dict[str, Any]) -> None:
    """Leave the records of the DNS message out: a stranger chooses their number and length."""
    args = found.get("args")
    for argument in args if isinstance(args, list) else ():
        match argument:
            case {"name": "proto_dns", "value": dict() as message}:
                argument["value"] = {**message, **_NO_RECORDS, "questions": _first(message.get("questions"))}
            case {"name": "relations"}:  # of a transaction
                argument["value"] = []
            case {"name": name, "value": {"args": _} as cause} if name == _TRIGGER:
                _shorten(cause)


def _first(questions: Any) -> list[Any]:
    return questions[:1] if isinstance(questions, list) else []


def timestamp(nanoseconds: int) -> str:
    """Return a time since the epoch as RFC 3339 in UTC, with microseconds."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat()[:_TO_SECONDS]}.{rest // 1000:06d}Z"
