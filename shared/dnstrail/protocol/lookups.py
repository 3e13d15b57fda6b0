"""Lookups on the wire: a request is one MessagePack map, and so is its reply (docs/reference/lookups.md).

Each operation is one Struct below, a subclass of `Request`. The cache holds one function for it (`answers.py`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgpack
import msgspec

from dnstrail.connection import Connection
from dnstrail.dns.names import address_text
from dnstrail.errors import BadMessage, DnstrailError
from dnstrail.events import LOSS_REASONS, NAMES
from dnstrail.protocol import MOST_PROBES
from dnstrail.protocol.batches import TURN, Count, Mark, nesting, unpack
from dnstrail.protocol.members import Name, Progress, Work

VERSION = 1
MAX_MESSAGE = 1 << 20  #: bytes of a request -> `bad_request`
MAX_KEY = 1024  #: bytes of a key -> `bad_request`
MAX_KEYS = 1024  #: keys or connections in one request -> `bad_request`
MAX_MARKS = 64  #: marks in `after` -> `bad_request`
MAX_TRAILS = 100
MAX_NESTING = 4  #: levels of nesting in a request -> `bad_request`
MAX_CURSOR = 40  # characters
MAX_WORKER = 128  #: characters of the name of a worker -> `bad_request`

#: error: no live relation touches the key; `asked` in the reply is the last question for it that brought no data
DATA_NOT_FOUND = "data_not_found"
KEY_NOT_SUPPORTED = "key_not_supported"  #: error: the key is not a string
BAD_REQUEST = "bad_request"  #: error: the request is malformed, or exceeds a bound; the message names it
UNSUPPORTED_VERSION = "unsupported_version"  #: error: `v` is not 1
OVERLOADED = "overloaded"  #: error: too many lookups wait for their events, or too many replies are unread

SCHEMA = '{"ip_addresses":"[]string","dns_queries":"[]string","dns_root":"string"}'
OPERATIONS: dict[str, type[Request]] = {}  # every public subclass of Request, by the name of its operation

_ENCODE = msgspec.msgpack.Encoder().encode
_UNKNOWN = Connection()
_Short = Annotated[str, msgspec.Meta(max_length=256)]
_ProcessId = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
_Port = Annotated[int, msgspec.Meta(ge=0, lt=1 << 16)]
_Nanoseconds = Annotated[int, msgspec.Meta(ge=-(1 << 62), lt=1 << 62)]
_Cookie = Annotated[int, msgspec.Meta(ge=0)]
EventTime = tuple[_Short, _Nanoseconds]  # (start id of a probe, time of an event on the clock of this probe)
Owner = tuple[_Short, Annotated[int, msgspec.Meta(ge=0)]]  # (host, cgroup): who has a share
_Limit = Annotated[int, msgspec.Meta(ge=1, le=MAX_TRAILS)]


class RefusedRequestError(DnstrailError):
    """A request that the cache refuses; `code` is one of the error codes of this module.

    `history` is False if the cache no longer knows everything about the time of the request. `asked` is the last
    question for its key that brought no data.
    """

    def __init__(
        self, code: str, message: str, *, history: bool = True, asked: Mapping[str, Any] | None = None
    ) -> None:
        self.code = code
        self.history = history
        self.asked = asked
        super().__init__(message)


def _name_of_operation(class_name: str) -> str:
    """Return the name on the wire: `GetManyRequest` is "get_many"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", class_name.removesuffix("Request")).lower()


class Request(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag=_name_of_operation):
    """A request that passed all checks of its operation, so that it can be answered as it is.

    A public subclass is one operation. It names the fields of the request and checks what their types cannot express.
    Fields that it does not name are ignored, so that later versions may add some.
    """

    after: tuple[Mark, ...] = ()  #: `[[start id, turn], ...]`, marks of events: the reply waits for these turns
    owner: Owner | None = None  #: `[host, cgroup]`, the owner of the events: skipped answers of others do not matter

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not cls.__name__.startswith("_"):
            OPERATIONS[_name_of_operation(cls.__name__)] = cls

    def __post_init__(self) -> None:
        """Check the request.

        Raises:
            RefusedError: a value is outside its limits; the text names it.
        """
        if len(self.after) > MAX_MARKS:
            raise RefusedRequestError(BAD_REQUEST, f"{len(self.after)} marks; {MAX_MARKS} at most")


class _AtTime(Request, frozen=True, kw_only=True):
    """The operations that may answer as of a past wall time."""

    at: float | None = None  #: epoch seconds: the image at that time, to the end of its microsecond
    at_ns: _Nanoseconds | None = None  #: the same in nanoseconds; both together are refused

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.at is not None and not math.isfinite(self.at):
            raise RefusedRequestError(BAD_REQUEST, "at is no time: epoch seconds are expected")
        if self.at is not None and self.at_ns is not None:
            raise RefusedRequestError(BAD_REQUEST, "at and at_ns: one of them names the time")


class _AboutConnection(_AtTime, frozen=True, kw_only=True):
    """The operations that accept the client side of a connection, as far as it is known."""

    process: _ProcessId | None = None  #: id of the process
    container: _Short | None = None  #: id of its container
    client: _Short | None = None  #: address of the client
    port: _Port | None = None  #: port of the server
    source_port: _Port | None = None  #: port of the client
    host: _Short | None = None  #: name of the host: it also limits the reply to the answers that this host saw

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_address("client", self.client)

    @property
    def connection(self) -> Connection:
        """The connection as it is described."""
        return _connection(self, self.host)


class GetRequest(_AboutConnection, frozen=True, kw_only=True):
    """One key; `at`, `at_ns` or `event` selects the image of a past time. Replies with the related names and addresses.

    The name of the connection comes first.
    """

    key: Any  #: a name or an address as text; another type is refused with an error code of its own
    event: EventTime | None = None  #: `[start id, time]`: the image at the time of an event, in ns of its probe

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_key(self.key)

    @property
    def described(self) -> Connection | None:
        """The connection, None if nothing of it is known."""
        return connection if (connection := self.connection) != _UNKNOWN else None


class GetManyRequest(_AtTime, frozen=True, kw_only=True):
    """Up to 1,024 keys. Replies with one result for each key, in their order; nil for a key without data."""

    keys: tuple[Any, ...]  #: names and addresses
    event: EventTime | None = None  #: as for `get`

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_count("keys", len(self.keys))
        for key in self.keys:
            _check_key(key)


class TrailRequest(_AboutConnection, frozen=True, kw_only=True):
    """One key, and the connection to explain. Replies with at most `limit` ranked paths from questions to the key."""

    key: Any  #: a name or an address as text
    event: EventTime | None = None  #: as for `get`
    limit: _Limit = MAX_TRAILS  #: paths in the reply

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_key(self.key)


class ConnectionTo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A connection in a request about many: its destination, and what is known of its client."""

    address: _Short  #: address of the server
    process: _ProcessId | None = None  #: id of the process
    container: _Short | None = None  #: id of its container
    client: _Short | None = None  #: address of the client
    port: _Port | None = None  #: port of the server
    source_port: _Port | None = None  #: port of the client
    host: _Short = ""  #: name of the host
    socket: _Cookie = 0  #: cookie of the socket, for `rank`
    event: EventTime | None = None  #: as for `get`
    at_ns: _Nanoseconds | None = None  #: epoch nanoseconds: its own time, where the request has none

    def __post_init__(self) -> None:
        _check_address("address", self.address)
        _check_address("client", self.client)

    @property
    def connection(self) -> Connection:
        """The connection without its destination."""
        return _connection(self)

    @property
    def on_host(self) -> Connection:
        """The same with its host, which limits the reply to the answers that this host saw."""
        return _connection(self, self.host)


class RankRequest(_AtTime, frozen=True, kw_only=True):
    """Up to 1,024 connections. Replies with the names of each one, the likeliest first; [] where none is known."""

    connections: tuple[ConnectionTo, ...]  #: what is known of each connection

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_count("connections", len(self.connections))


class TrailManyRequest(RankRequest, frozen=True, kw_only=True):
    """Up to 1,024 connections, as for `rank`. Replies with the first trail of each one, in their order.

    The list is shorter than the request once 5 ms are over, or 0.3 s in the history: ask again for the others. A map
    has `dns_root`, `state`, `scope`, `bound`, the questions of other trails as `rivals`, `process`, which connected,
    and `asked_by`, as far as they are known, and `history`, as a reply to `trail`.
    """

    history: bool = False  #: true: the history answers, if there is one; each connection then needs a time


class ConnectionsRequest(_AtTime, frozen=True, kw_only=True):
    """The connections that are or were open, page by page, of one process, container, unit or host if it is named.

    Replies with `connections`, with `next`, the cursor of the next page ("" at the end), with `hosts`, the number of
    hosts that the cache follows, and with `history`, false if some of a past time are unknown.
    """

    process: _ProcessId | None = None  #: id of the process
    container: _Short | None = None  #: name or image of a container, or a pattern, or the beginning of its id
    unit: _Short | None = None  #: name of a systemd unit or slice; a user's is USER/UNIT
    host: _Short | None = None  #: name of the host
    rivals: bool = False  #: true: each connection has the other names of its address
    #: `next` of the page before, "" for the first page
    cursor: Annotated[str, msgspec.Meta(max_length=MAX_CURSOR, pattern=r"^([0-9]{1,19} [0-9]{1,19})?\Z")] = ""

    @property
    def described(self) -> Connection:
        """What the connections have in common."""
        return Connection(self.process, self.container, host=self.host, unit=self.unit)


class SchemaRequest(Request, frozen=True):
    """The shape of a result, as tracee's data source describes it."""


class KeysRequest(Request, frozen=True):
    """The types of key that `get` accepts."""


class VersionRequest(Request, frozen=True):
    """The version of the schema."""


class StatsRequest(Request, frozen=True):
    """The counters of every hop."""


class HealthRequest(Request, frozen=True):
    """The state of the cache and of the probes that feed it."""


class DumpRequest(Request, frozen=True, kw_only=True):
    """The records of the image, page by page.

    Replies with `records`, each with its question, party, owner, `edges` and answers, and with `next`, as for
    `connections`.
    """

    #: `next` of the page before, "" for the first page
    cursor: Annotated[str, msgspec.Meta(max_length=MAX_CURSOR)] = ""


class LostRequest(Request, frozen=True, kw_only=True):
    """A worker's report of what it has missed since its start, by event name or reason (`LOSS_REASONS`)."""

    worker: Annotated[str, msgspec.Meta(max_length=MAX_WORKER)] = ""  #: name of the worker
    lost: dict[str, Count] = {}  #: counts since its start, by event name or reason
    user: int | str | None = None  #: set by the cache

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.worker:
            raise RefusedRequestError(BAD_REQUEST, "lost without the name of a worker")
        if unknown := self.lost.keys() - {*NAMES, TURN, *LOSS_REASONS}:
            raise RefusedRequestError(BAD_REQUEST, f"no event is called {min(unknown)!r:.40}")


class JoinRequest(Request, frozen=True, kw_only=True):
    """A worker's membership in a group, for three seconds. Replies with all living members of the group."""

    group: Name  #: name of the group
    worker: Name  #: name of the worker
    epoch: Count = 0  #: `epoch` of the last reply whose changes the worker has taken in
    #: all starts of probes that the worker follows, and how far it has handled each
    progress: Annotated[tuple[Progress, ...], msgspec.Meta(max_length=MOST_PROBES)] = ()
    #: `cache` of the last reply, the run of its cache; "" before the first one
    cache: Annotated[str, msgspec.Meta(max_length=MAX_WORKER)] = ""
    form: Count = 1  #: 2; a worker of an earlier version states none
    work: Work = Work()  #: counts of what the worker handled, and of the faults of its signatures
    leave: bool = False  #: true: the worker leaves the group
    user: int | str | None = None  #: set by the cache: the user of the connection, or the name of its key


def operation_of(request: Request) -> str:
    """Return the name of the operation of a request."""
    return str(type(request).__struct_config__.tag)


def encode_request(op: str, **fields: object) -> bytes:
    """Encode a request."""
    return _ENCODE({"v": VERSION, "op": op, **fields})


def encode_data(data: object, *, complete: bool = True, history: bool = True, source: str = "") -> bytes:
    """Encode a reply with data, plain or Structs; it contains `history` only where it is false.

    `complete` is False if a mark was not reached. `history` is False if the reply has no data for a key of a time about
    which the cache no longer knows everything. `source` names who answered in place of the cache.
    """
    reply = {"v": VERSION, "ok": True, "data": data, "complete": complete, **_sourced(source)}
    return _ENCODE(reply if history else {**reply, "history": False})


def encode_error(refused: RefusedRequestError, *, complete: bool = True, source: str = "") -> bytes:
    """Encode a refusal; it contains `complete` and `history` only where they are false."""
    refusal = {"v": VERSION, "ok": False, "error": refused.code, "message": str(refused), **_sourced(source)}
    flags = {"complete": complete, "history": refused.history}
    asked = {} if refused.asked is None else {"asked": refused.asked}
    return msgpack.packb({**refusal, **asked, **{name: flag for name, flag in flags.items() if not flag}})


def _sourced(source: str) -> dict[str, str]:
    return {"source": source} if source else {}


def decode_request(body: bytes) -> Request:
    """Decode and check a request; `body` may hold anything.

    Raises:
        RefusedError: it is no valid request; the text names the fault.
    """
    fields = decode_map(body)
    operation = OPERATIONS.get(op) if isinstance(op := fields.get("op"), str) else None
    if operation is None:
        raise RefusedRequestError(BAD_REQUEST, f"unknown op {op!r:.40}; known: {', '.join(OPERATIONS)}")
    try:
        return msgspec.convert(fields, operation)
    except msgspec.ValidationError as error:
        raise RefusedRequestError(BAD_REQUEST, str(error)) from error


def decode_map(body: bytes) -> dict[str, Any]:
    """Return the fields of a request; refuse those of another version, and beyond the limits on size and nesting."""
    if len(body) > MAX_MESSAGE:
        raise RefusedRequestError(BAD_REQUEST, f"a message of {len(body)} bytes; {MAX_MESSAGE} at most")
    try:
        fields = unpack(body)
    except BadMessage as error:
        raise RefusedRequestError(BAD_REQUEST, str(error)) from error
    if not isinstance(fields, dict):
        raise RefusedRequestError(BAD_REQUEST, "a request is a MessagePack map")
    if nesting(fields, MAX_NESTING) > MAX_NESTING:
        raise RefusedRequestError(BAD_REQUEST, f"nested deeper than {MAX_NESTING}")
    if (version := fields.get("v")) != VERSION or version is True:
        raise RefusedRequestError(UNSUPPORTED_VERSION, f"v is {version!r:.40}; this cache speaks {VERSION}")
    return fields


def _connection(stated: _AboutConnection | ConnectionTo, host: str | None = None) -> Connection:
    client = None if stated.client is None else address_text(stated.client)
    return Connection(stated.process, stated.container, client, stated.port, stated.source_port, host=host or None)


def _check_key(key: object) -> None:
    if not isinstance(key, str):
        raise RefusedRequestError(
            KEY_NOT_SUPPORTED, f"queried key is not supported: {type(key).__name__}, not a string"
        )
    if (size := len(key.encode())) > MAX_KEY:
        raise RefusedRequestError(BAD_REQUEST, f"a key of {size} bytes; {MAX_KEY} at most")


def _check_count(name: str, count: int) -> None:
    if count > MAX_KEYS:
        raise RefusedRequestError(BAD_REQUEST, f"{count} {name}; {MAX_KEYS} at most")


def _check_address(name: str, text: str | None) -> None:
    if text is not None and address_text(text) is None:
        raise RefusedRequestError(BAD_REQUEST, f"{name} is no address")
