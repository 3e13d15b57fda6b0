"""The client of the cache: lookups over the bus, and the data source ("tracee", "dns") that signatures ask."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import msgspec

from dnstrail.bus import Bus
from dnstrail.bus.ipc import default_run_dir, lookups_address, why_unanswered
from dnstrail.bus.keys import default_keys, keys_for
from dnstrail.cache_connection import CacheConnection
from dnstrail.connection import Connection
from dnstrail.datasource import DnsIdentity
from dnstrail.errors import DataNotFound, KeyNotSupported, LookupRefused, Unavailable
from dnstrail.protocol.batches import Mark
from dnstrail.protocol.lookups import (
    BAD_REQUEST,
    DATA_NOT_FOUND,
    KEY_NOT_SUPPORTED,
    ConnectionTo,
    EventTime,
    Owner,
    encode_request,
)

_LONGEST = 1_000_000  # seconds of a timeout: ZeroMQ counts in 31 bits of milliseconds
_PATIENCE = 5.0  # seconds that a cache which is behind may take to catch up
_WAITED = 0.1  # seconds after which an incomplete reply shows that the cache waited for its events
_DECODE: Callable[[bytes], dict[str, Any]] = msgspec.msgpack.Decoder(dict[str, Any]).decode
_MARKS: ContextVar[tuple[Mark, ...]] = ContextVar("marks", default=())
_EVENT: ContextVar[EventTime | None] = ContextVar("event", default=None)
_OWNER: ContextVar[Owner | None] = ContextVar("owner", default=None)

Monotonic = Callable[[], float]


@contextmanager
def lookups_after(
    *marks: Mark, event: EventTime | None = None
) -> Iterator[Callable[[EventTime | None, Owner | None], object]]:
    """Bind lookups to the events at hand: within the block, none of this thread answers from before these marks.

    With `event` they answer as of the time of this event, if they name no time. The block receives a function that
    replaces the event by the next one and its owner, which costs less than another block. Other threads keep their own
    marks. A thread that asks about an event of its own passes `after=[event.mark]`, and `at`.
    """
    mark_token, event_token, owner_token = _MARKS.set(marks), _EVENT.set(event), _OWNER.set(None)
    try:
        yield _set_event
    finally:
        _OWNER.reset(owner_token)
        _EVENT.reset(event_token)
        _MARKS.reset(mark_token)


def _set_event(event: EventTime | None, owner: Owner | None) -> None:
    _EVENT.set(event)
    _OWNER.set(owner)


class FoundData(dict[str, Any]):
    """The fields of the schema. `history` is False if the cache no longer knows everything about the time asked."""

    def __init__(self, fields: Mapping[str, Any], *, history: bool = True) -> None:
        super().__init__(fields)
        self.history = history


class FoundMany(list[FoundData | None]):
    """The results of several keys. `history` is False if one is None, and the cache no longer knows its time."""

    def __init__(self, results: Iterable[FoundData | None], *, history: bool = True) -> None:
        super().__init__(results)
        self.history = history


class LookupClient:
    """A connection to one cache. Threads may share it: their requests take turns.

    Every request ends within `timeout` seconds, whatever the cache does. On this host it is sent only to a socket in a
    folder that this process may believe (bus/trust.py), and to another host only if the server has a known key.
    The child of a fork makes a connection of its own; a client with a given `bus` is unavailable there.
    `monotonic` is a clock in seconds. `beat` is called before each request: an `ask` may wait longer than the main loop
    of a worker may stand still.

    Raises:
        BusError: the address has another form, or this host has no keys for it.
        ValueError: `timeout` is no number from 0 to 1,000,000.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        timeout: float = 1.0,
        bus: Bus | None = None,
        monotonic: Monotonic = time.monotonic,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        if not 0 <= timeout <= _LONGEST:
            raise ValueError(f"timeout={timeout} is no number of seconds from 0 to {_LONGEST:,}")
        self.address = address or lookups_address(default_run_dir())
        self.timeout = timeout
        self._monotonic = monotonic
        self._beat = beat
        keys = None if bus else keys_for(default_keys(), [self.address])
        self._connections = {os.getpid(): CacheConnection(self.address, keys, bus)}  # by process

    def request(self, op: str, **fields: object) -> dict[str, Any]:
        """Return the whole reply to one operation (docs/use/lookups.md).

        Raises:
            DataNotFound: the cache has no data under the key.
            KeyNotSupported: the key is no string.
            LookupRefused: the cache refuses the request, or its reply is unusable.
            Unavailable: no cache answered in time, after all retries, this process must not believe its folder, or the
                client was closed.
        """
        reply = self._connection().request(_encode(op, fields), self.timeout, self._beat)
        if reply is None:
            raise Unavailable(self.address, self.timeout, *why_unanswered(self.address))
        return _decode_reply(reply, fields.get("key"))

    def send(self, op: str, **fields: object) -> bool:
        """Send a request without waiting for its reply; return whether it could be sent.

        Raises:
            DataNotFound: the key is no text.
            LookupRefused: another field is no text, or a number has more than 64 bits.
            Unavailable: as by `request`, if other requests took all of the time, or nothing may be sent.
        """
        return self._connection().send(_encode(op, fields), self.timeout)

    def reply(self) -> dict[str, Any] | None:
        """Return the reply to the request of `send`, or None if none has arrived.

        Raises:
            LookupRefused: the cache refuses the request, or its reply is unusable.
            Unavailable: requests of other threads took all of the time.
        """
        body = self._connection().reply(self.timeout)
        return None if body is None else _decode_reply(body, None)

    def ask(self, op: str, *, after: Iterable[Mark], patience: float = _PATIENCE, **fields: Any) -> Any:
        """Return the data of the reply of `ask_reply`.

        Raises:
            DataSourceError: as `request` does.
        """
        return self.ask_reply(op, after=after, patience=patience, **fields).get("data")

    def ask_reply(
        self, op: str, *, after: Iterable[Mark], patience: float = _PATIENCE, **fields: Any
    ) -> dict[str, Any]:
        """Return a whole reply. A cache that is behind the marks is asked again, for `patience` seconds.

        After that the last reply counts.

        Raises:
            DataSourceError: as `request` does.
        """
        marks = list(after)
        deadline = self._monotonic() + patience
        while True:
            began = self._monotonic()
            try:
                reply = self.request(op, after=marks, **fields)
            except DataNotFound as error:
                if error.complete or not self._may_catch_up(began, deadline):
                    raise
                continue
            if reply.get("complete", True) or not self._may_catch_up(began, deadline):
                return reply

    def report_losses(self, worker: str, lost: Mapping[str, int]) -> bool:
        """Send the losses of a worker since its start, by event name, to the cache; False if no cache answered."""
        try:
            self.request("lost", worker=worker, lost=dict(lost))
        except Unavailable:
            return False
        except LookupRefused:  # by a cache of an earlier version, which will not accept it later either
            return True
        return True

    def close(self) -> None:
        """Close the connection, after the request that another thread has made. Later requests raise Unavailable."""
        self._connection().close(self.timeout)

    def _connection(self) -> CacheConnection:
        """Return the connection of this process.

        The child of a fork keeps that of its parent untouched: its threads, its lock and its sockets work there alone.
        """
        process = os.getpid()
        if process not in self._connections:
            of_parent = [*self._connections.values()][-1]
            self._connections.setdefault(process, of_parent.of_child())  # two threads get the same one
        return self._connections[process]

    def _may_catch_up(self, began: float, deadline: float) -> bool:
        """Return whether to ask again: an incomplete reply that came at once means that a mark is out of reach."""
        now = self._monotonic()
        return now - began >= _WAITED and now < deadline


class DnsDataSource(DnsIdentity):
    """The data source ("tracee", "dns"): names and addresses as one cache relates them.

    No lookup answers from before the events at hand. Their marks are `after`, or else the marks of `lookups_after`. A
    lookup answers as of `at` (seconds since the epoch) or `at_ns` (nanoseconds, as the `timestamp` of an event), else
    as of the event of `lookups_after`, else as of now. The data source itself holds neither, so that threads may share
    it.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        timeout: float = 1.0,
        bus: Bus | None = None,
        monotonic: Monotonic = time.monotonic,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self.client = LookupClient(address, timeout=timeout, bus=bus, monotonic=monotonic, beat=beat)

    def get(
        self,
        key: object,
        *,
        after: Iterable[Mark] | None = None,
        at: float | None = None,
        at_ns: int | None = None,
        connection: Connection | None = None,
    ) -> FoundData:
        """Look up a name or an address. The name of `connection`, if it is open to this address, comes first.

        Returns:
            `ip_addresses` and `dns_queries`, lists of strings, and `dns_root`, a string (docs/use/lookups.md).
            Its attribute `history` is False if the cache no longer knows everything about the time of the lookup.

        Raises:
            DataNotFound: nothing live touches the key; it has the same attribute.
            KeyNotSupported: the key is no string.
            Unavailable: no cache answered in time.
        """
        if not isinstance(key, str):
            raise KeyNotSupported(key)
        fields = {**_time(at, at_ns), **(connection.fields if connection else {})}
        return _schema_fields(self._ask("get", **_at_hand(after), key=key, **fields).get("data"))

    def get_many(
        self,
        keys: Iterable[str],
        *,
        after: Iterable[Mark] | None = None,
        at: float | None = None,
        at_ns: int | None = None,
        patience: float = _PATIENCE,
    ) -> FoundMany:
        """Look up at most 1,024 keys in one request; None stands where `get` would raise DataNotFound.

        The attribute `history` of the list is False if one is None, and the cache no longer knows its time.
        `patience`: seconds that a cache which is behind the events at hand may take to catch up.

        Raises:
            KeyNotSupported: a key is no string.
            LookupRefused: there are too many keys, or the reply is unusable.
            Unavailable: no cache answered in time.
        """
        asked = list(keys)
        for key in asked:
            if not isinstance(key, str):
                raise KeyNotSupported(key)
        encodable = [_encodable(key) for key in asked]
        reply = self._ask("get_many", **_at_hand(after), patience=patience, keys=encodable, **_time(at, at_ns))
        results = (None if data is None else _schema_fields(data) for data in _list_of(len(asked), reply.get("data")))
        return FoundMany(results, history=reply.get("history") is not False)

    def rank(
        self, connections: Iterable[ConnectionTo], *, after: Iterable[Mark] | None = None, patience: float = _PATIENCE
    ) -> list[list[str]]:
        """Return the names of each of at most 1,024 connections, the likeliest first; [] where none is known.

        Raises:
            LookupRefused: there are too many connections, or the reply is unusable.
            Unavailable: no cache answered in time.
        """
        asked = [msgspec.to_builtins(connection) for connection in connections]
        names = self._ask("rank", **_at_hand(after), patience=patience, connections=asked).get("data")
        return [_list_of(None, each) for each in _list_of(len(asked), names)]

    def close(self) -> None:
        """Close the connection, after the lookup that another thread has made. Later lookups raise Unavailable."""
        self.client.close()

    def _ask(self, op: str, **fields: Any) -> dict[str, Any]:
        return self.client.ask_reply(op, **fields)


def _at_hand(after: Iterable[Mark] | None) -> dict[str, Any]:
    """Return the events at hand as fields of a request: the marks that the caller names, else those of the block."""
    owner = _OWNER.get()
    if after is not None or owner is None:
        return {"after": _MARKS.get() if after is None else after}
    return {"after": _MARKS.get(), "owner": owner}


def _time(at: float | None, at_ns: int | None) -> dict[str, Any]:
    """Return the time of a lookup as fields of its request: the cache refuses both."""
    if at is not None or at_ns is not None:
        return {name: time for name, time in (("at", at), ("at_ns", at_ns)) if time is not None}
    event = _EVENT.get()
    return {} if event is None else {"event": event}


def _schema_fields(data: Any) -> FoundData:
    """Return the fields of the schema alone."""
    try:
        fields = {
            "ip_addresses": data["ip_addresses"],
            "dns_queries": data["dns_queries"],
            "dns_root": data["dns_root"],
        }
        return FoundData(fields, history=data.get("history") is not False)
    except (TypeError, KeyError) as error:
        raise LookupRefused("bad_reply", "a result without the fields of the schema") from error


def _list_of(count: int | None, data: Any) -> list[Any]:
    if not isinstance(data, list) or (count is not None and len(data) != count):
        raise LookupRefused("bad_reply", "the reply is no list of that length")
    return data


def _encode(op: str, fields: dict[str, Any]) -> bytes:
    """Return a request; a text of its fields may be bytes from a command line, which are no text.

    Raises:
        DataNotFound: the key is no text.
        LookupRefused: another field is no text, or a number has more than 64 bits.
    """
    try:
        return encode_request(op, **fields)
    except OverflowError as error:
        raise LookupRefused(BAD_REQUEST, "a number has more than 64 bits") from error
    except UnicodeEncodeError as error:
        key = fields.get("key")
        if isinstance(key, str) and key != _encodable(key):
            raise DataNotFound(key) from error
        raise LookupRefused(BAD_REQUEST, f"{error.object!r:.80} is no text") from error


def _encodable(key: str) -> str:
    """Return the key, or "", which is never found, for a key that is no text: bytes from a command line."""
    return key if key.isascii() or not any("\ud800" <= character <= "\udfff" for character in key) else ""


def _decode_reply(body: bytes, key: object) -> dict[str, Any]:
    try:
        reply = _DECODE(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise LookupRefused("bad_reply", f"no MessagePack map: {error}") from error
    if reply.get("ok"):
        return reply
    code = str(reply.get("error"))
    if code == DATA_NOT_FOUND:
        flags = {name: reply.get(name) is not False for name in ("complete", "history")}
        raise DataNotFound(key, asked=asked if isinstance(asked := reply.get("asked"), dict) else None, **flags)
    if code == KEY_NOT_SUPPORTED:
        raise KeyNotSupported(key)
    raise LookupRefused(code, str(reply.get("message")))
