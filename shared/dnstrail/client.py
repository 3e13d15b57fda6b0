"""The client of the cache: lookups over the bus, and the data source ("tracee", "dns") that signatures ask."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from dnstrail.bus import Bus, ZmqBus
from dnstrail.bus.ipc import default_run_dir, lookups_address
from dnstrail.errors import BadMessage, BusError, DataNotFound, KeyNotSupported, LookupRefused, Unavailable
from dnstrail.protocol.batches import Mark, unpack
from dnstrail.protocol.lookups import DATA_NOT_FOUND, KEY_NOT_SUPPORTED, SCHEMA, encode_request

_TRIES = 2  # a cache that restarts may lose a request on its way
_PATIENCE = 5.0  # seconds for which a cache that is behind may catch up
_WAITED = 0.1  # seconds after which an answer shows that the cache waited for its events
_FIELDS = ("ip_addresses", "dns_queries", "dns_root")


class LookupClient:
    """Asks a cache; for one thread. Every call ends within `timeout` seconds, whatever the cache does."""

    def __init__(self, address: str | None = None, *, timeout: float = 1.0, bus: Bus | None = None) -> None:
        self.address = address or lookups_address(default_run_dir())
        self.timeout = timeout
        self._own_bus = None if bus else ZmqBus()
        try:
            self._requester = (bus or self._own_bus).requester(self.address)  # type: ignore[union-attr] # one of them is
        except BusError:
            if self._own_bus:
                self._own_bus.close()
            raise

    def request(self, op: str, **fields: object) -> dict[str, Any]:
        """The whole reply to one operation of DESIGN 4.

        Raises:
            DataNotFound, KeyNotSupported, LookupRefused: as the cache says.
            Unavailable: no cache answered in time, with all retries.
        """
        try:
            body = encode_request(op, **fields)
        except UnicodeEncodeError as error:  # bytes from a command line that are no text
            raise DataNotFound(fields.get("key")) from error
        for _ in range(_TRIES):
            answered = self._requester.request(body, self.timeout / _TRIES)
            if answered is not None:
                return _checked(answered, fields.get("key"))
        raise Unavailable(self.address, self.timeout)

    def close(self) -> None:
        """Close the connection."""
        self._requester.close()
        if self._own_bus:
            self._own_bus.close()


class DnsDataSource:
    """The data source ("tracee", "dns"): names and addresses as the cache knows them.

    `after` holds the marks of the events at hand: no lookup answers from before them (DESIGN 3).
    """

    def __init__(self, address: str | None = None, *, timeout: float = 1.0, bus: Bus | None = None) -> None:
        self._client = LookupClient(address, timeout=timeout, bus=bus)
        self.after: list[Mark] = []

    def get(self, key: object) -> dict[str, Any]:
        """What a name or an address hangs together with.

        Returns:
            `{"ip_addresses": list[str], "dns_queries": list[str], "dns_root": str}` (DESIGN 5.5).

        Raises:
            DataNotFound: nothing live touches the key.
            KeyNotSupported: the key is no string.
            Unavailable: no cache answered in time.
        """
        if not isinstance(key, str):
            raise KeyNotSupported(key)
        return _fields(self._ask("get", key=key))

    def get_many(self, keys: Iterable[str], *, patience: float = _PATIENCE) -> list[dict[str, Any] | None]:
        """The same for up to 1,024 keys in one request; None where `get` would raise DataNotFound.

        `patience`: seconds for which a cache that is behind the events at hand may catch up.
        """
        asked = list(keys)
        for key in asked:
            if not isinstance(key, str):
                raise KeyNotSupported(key)
        found = self._ask("get_many", patience, keys=[_on_the_wire(key) for key in asked])
        if not isinstance(found, list) or len(found) != len(asked):
            raise LookupRefused("bad_reply", "no list of that length came back")
        return [None if data is None else _fields(data) for data in found]

    def _ask(self, op: str, patience: float = _PATIENCE, **fields: object) -> Any:
        """The data of an answer. A cache that is behind the events at hand is asked again, for a bounded time."""
        deadline = time.monotonic() + patience
        while True:
            asked = time.monotonic()
            try:
                reply = self._client.request(op, after=self.after, **fields)
            except DataNotFound as error:
                if error.complete or not _may_catch_up(asked, deadline):
                    raise
                continue
            if reply.get("complete", True) or not _may_catch_up(asked, deadline):
                return reply.get("data")

    def tell_lost(self, worker: str, lost: Mapping[str, int]) -> bool:
        """Tell the cache, for its stats, what a worker has missed so far, by name; False if it could not be told."""
        try:
            self._client.request("lost", worker=worker, lost=dict(lost))
        except Unavailable:
            return False
        except LookupRefused:  # by a cache of an earlier version, which will not take it later either
            return True
        return True

    def schema(self) -> str:
        """The shape of an answer, as JSON."""
        return SCHEMA

    def keys(self) -> list[str]:
        """The types of key that `get` takes."""
        return ["string"]

    def version(self) -> int:
        """The version of the schema."""
        return 1

    def namespace(self) -> str:
        """The namespace, as in tracee."""
        return "tracee"

    def id(self) -> str:
        """The id, as in tracee."""
        return "dns"

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def _fields(data: Any) -> dict[str, Any]:
    """What the schema names, of the data of a reply."""
    if not isinstance(data, dict) or not data.keys() >= set(_FIELDS):
        raise LookupRefused("bad_reply", "an answer without the fields of the schema")
    return {field: data[field] for field in _FIELDS}


def _on_the_wire(key: str) -> str:
    """A key, or "", which is never found, for one that is no text: bytes from a command line."""
    return "" if any("\ud800" <= character <= "\udfff" for character in key) else key


def _may_catch_up(asked: float, deadline: float) -> bool:
    """Whether to ask again: an incomplete answer that came at once says that its mark never will be reached."""
    now = time.monotonic()
    return now - asked >= _WAITED and now < deadline


def _checked(answered: bytes, key: object) -> dict[str, Any]:
    try:
        reply = unpack(answered)
    except BadMessage as error:
        raise LookupRefused("bad_reply", str(error)) from error
    if not isinstance(reply, dict):
        raise LookupRefused("bad_reply", "no map came back")
    if reply.get("ok"):
        return reply
    code = str(reply.get("error"))
    if code == DATA_NOT_FOUND:
        raise DataNotFound(key, complete=reply.get("complete") is not False)
    if code == KEY_NOT_SUPPORTED:
        raise KeyNotSupported(key)
    raise LookupRefused(code, str(reply.get("message")))
