"""Lookups on the wire: one MessagePack map asks, one answers (DESIGN 4)."""

from __future__ import annotations

import math
from typing import Annotated, Any

import msgpack
import msgspec

from dnstrail.connection import Connection
from dnstrail.dns.names import address_text
from dnstrail.errors import BadMessage, DnstrailError
from dnstrail.events import NAMES, SIGNATURE_ERRORS
from dnstrail.protocol.batches import TURN, Count, Mark, unpack

VERSION = 1
OPERATIONS = ("get", "get_many", "trail", "schema", "keys", "version", "stats", "health", "lost")
MAX_MESSAGE = 1 << 20  # bytes
MAX_KEY = 1024  # bytes
MAX_KEYS = 1024
MAX_MARKS = 64
MAX_NESTING = 4
MAX_WORKER = 128  # characters of a worker's name

DATA_NOT_FOUND = "data_not_found"
KEY_NOT_SUPPORTED = "key_not_supported"
BAD_REQUEST = "bad_request"
UNSUPPORTED_VERSION = "unsupported_version"
OVERLOADED = "overloaded"

SCHEMA = '{"ip_addresses":"[]string","dns_queries":"[]string","dns_root":"string"}'


class RefusedError(DnstrailError):
    """A request that cannot be answered; `code` is one of the error codes of this module."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


class Request(msgspec.Struct, frozen=True):
    """A request after its check: `keys` holds the one key of `get` and `trail`, too; `connection` goes with `trail`.

    `lost` is what a `worker` has missed so far, by name: events, and ends of turns.
    """

    op: str
    keys: tuple[str, ...] = ()
    at: float | None = None
    after: tuple[Mark, ...] = ()
    connection: Connection = Connection()
    worker: str = ""
    lost: dict[str, int] = {}


_Short = Annotated[str, msgspec.Meta(max_length=256)]


class _Wire(msgspec.Struct, frozen=True):
    op: str
    key: Any = None
    keys: list[Any] | None = None
    at: float | None = None
    after: list[Mark] = []
    process: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)] | None = None
    container: _Short | None = None
    client: _Short | None = None
    port: Annotated[int, msgspec.Meta(ge=0, lt=1 << 16)] | None = None
    worker: Annotated[str, msgspec.Meta(max_length=MAX_WORKER)] = ""
    lost: dict[str, Count] = {}


def encode_request(op: str, **fields: object) -> bytes:
    """A request as bytes."""
    return msgpack.packb({"v": VERSION, "op": op, **fields})


def encode_data(data: object, *, complete: bool = True) -> bytes:
    """The reply that answers."""
    return msgpack.packb({"v": VERSION, "ok": True, "data": data, "complete": complete})


def encode_error(code: str, message: str, *, complete: bool = True) -> bytes:
    """The reply that refuses; where `complete` is false, as in the reply that answers, it says so."""
    refusal = {"v": VERSION, "ok": False, "error": code, "message": message}
    return msgpack.packb(refusal if complete else {**refusal, "complete": False})


def decode_request(body: bytes) -> Request:
    """Check a request, whatever somebody sent.

    Raises:
        RefusedError: it is none; the text says what is wrong.
    """
    if len(body) > MAX_MESSAGE:
        raise RefusedError(BAD_REQUEST, f"a message of {len(body)} bytes; {MAX_MESSAGE} at most")
    try:
        asked = unpack(body)
    except BadMessage as error:
        raise RefusedError(BAD_REQUEST, str(error)) from error
    if not isinstance(asked, dict):
        raise RefusedError(BAD_REQUEST, "a request is a MessagePack map")
    if _nesting(asked) > MAX_NESTING:
        raise RefusedError(BAD_REQUEST, f"nested deeper than {MAX_NESTING}")
    if asked.get("v") != VERSION or asked["v"] is True:
        raise RefusedError(UNSUPPORTED_VERSION, f"v is {asked.get('v')!r:.40}; this cache speaks {VERSION}")
    try:
        wire = msgspec.convert(asked, _Wire)
    except msgspec.ValidationError as error:
        raise RefusedError(BAD_REQUEST, str(error)) from error
    return _checked(wire)


def _checked(wire: _Wire) -> Request:
    if wire.op not in OPERATIONS:
        raise RefusedError(BAD_REQUEST, f"unknown op {wire.op!r:.40}; known: {', '.join(OPERATIONS)}")
    if wire.at is not None and not math.isfinite(wire.at):
        raise RefusedError(BAD_REQUEST, "at is no time: epoch seconds are expected")
    if len(wire.after) > MAX_MARKS:
        raise RefusedError(BAD_REQUEST, f"{len(wire.after)} marks; {MAX_MARKS} at most")
    keys: list[Any] = []
    if wire.op in ("get", "trail"):
        keys = [wire.key]
    elif wire.op == "get_many":
        if wire.keys is None:
            raise RefusedError(BAD_REQUEST, "get_many without keys")
        keys = wire.keys
    if wire.op == "lost":
        return Request(wire.op, worker=_checked_worker(wire.worker), lost=_checked_losses(wire.lost))
    return Request(wire.op, tuple(map(_checked_key, _few(keys))), wire.at, tuple(wire.after), _connection(wire))


def _checked_worker(name: str) -> str:
    if not name:
        raise RefusedError(BAD_REQUEST, "lost without the name of a worker")
    return name


def _checked_losses(lost: dict[str, int]) -> dict[str, int]:
    unknown = lost.keys() - {*NAMES, TURN, SIGNATURE_ERRORS}
    if unknown:
        raise RefusedError(BAD_REQUEST, f"no event is called {min(unknown)!r:.40}")
    return lost


def _connection(wire: _Wire) -> Connection:
    client = None if wire.client is None else address_text(wire.client)
    if client is None and wire.client is not None:
        raise RefusedError(BAD_REQUEST, "client is no address")
    return Connection(wire.process, wire.container, client, wire.port)


def _few(keys: list[Any]) -> list[Any]:
    if len(keys) > MAX_KEYS:
        raise RefusedError(BAD_REQUEST, f"{len(keys)} keys; {MAX_KEYS} at most")
    return keys


def _checked_key(key: Any) -> str:
    if not isinstance(key, str):
        raise RefusedError(KEY_NOT_SUPPORTED, f"queried key is not supported: {type(key).__name__}, not a string")
    if len(key.encode()) > MAX_KEY:
        raise RefusedError(BAD_REQUEST, f"a key of {len(key.encode())} bytes; {MAX_KEY} at most")
    return key


def _nesting(value: Any) -> int:
    """How deep maps and arrays are nested; looks no deeper than it has to."""
    depth, level = 0, [value]
    while level and depth <= MAX_NESTING + 1:
        level = [
            inner
            for outer in level
            if isinstance(outer, list | tuple | dict)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        depth += 1
    return depth - 1
