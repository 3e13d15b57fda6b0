"""The client of the cache: lookups over the bus, and the data source ("tracee", "dns") that signatures ask."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dnstrail.bus import Bus, ZmqBus
from dnstrail.bus.ipc import default_run_dir, lookups_address
from dnstrail.errors import BadMessage, DataNotFound, KeyNotSupported, LookupRefused, Unavailable
from dnstrail.lookups import DATA_NOT_FOUND, KEY_NOT_SUPPORTED, SCHEMA, encode_request
from dnstrail.turns import Mark, unpack

_TRIES = 2  # a cache that restarts may lose a request on its way
_FIELDS = ("ip_addresses", "dns_queries", "dns_root")


class LookupClient:
    """Asks a cache; for one thread. Every call ends within `timeout` seconds, whatever the cache does."""

    def __init__(self, address: str | None = None, *, timeout: float = 1.0, bus: Bus | None = None) -> None:
        self.address = address or lookups_address(default_run_dir())
        self.timeout = timeout
        self._own_bus = None if bus else ZmqBus()
        self._requester = (bus or self._own_bus or ZmqBus()).requester(self.address)

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
        data = self._client.request("get", key=key, after=self.after)["data"]
        return {field: data[field] for field in _FIELDS}

    def get_many(self, keys: Iterable[str]) -> list[dict[str, Any] | None]:
        """The same for up to 1,024 keys in one request; None where `get` would raise DataNotFound."""
        found = self._client.request("get_many", keys=list(keys), after=self.after)["data"]
        return [data and {field: data[field] for field in _FIELDS} for data in found]

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
        raise DataNotFound(key)
    if code == KEY_NOT_SUPPORTED:
        raise KeyNotSupported(key)
    raise LookupRefused(code, str(reply.get("message")))
