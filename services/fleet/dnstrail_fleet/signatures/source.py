"""The data source ("dnstrail", "fleet"): what the store of the fleet knows, and the signatures that ask it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, NamedTuple

import msgspec

from dnstrail.client import LookupClient
from dnstrail.errors import DataSourceMissing, LookupRefused, Unavailable
from dnstrail.events import Event
from dnstrail.protocol.lookups import OVERLOADED
from dnstrail.signature import EventSelector, Signature, SignatureContext, SignatureMetadata
from dnstrail_fleet.signatures.events import DNS_RELATION_NEW

Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]  #: a setting; infinity and NaN are refused
_TRIES: Final = 3  # of a lookup that takes the store too long


class FirstHosts(NamedTuple):
    """The hosts that asked for a name first, each with the time (seconds since the epoch) at which it did.

    `since` is the begin of the first day of the store.
    """

    hosts: list[tuple[str, float]]
    since: float


class LoneHost(NamedTuple):
    """The host that alone asked for a name, "" if there is none, and the time (seconds since the epoch) of the first.

    `since` is the begin of the first day of the store.
    """

    host: str
    first: float
    since: float


class Claim(NamedTuple):
    """Whether an event is the first one of a subject. `since` is the begin of the first day of the store."""

    is_first: bool
    since: float


class FleetDataSource:
    """The lookups of one worker at the store. `failed` states why the last event could not be handled, or is ""."""

    def __init__(self, client: LookupClient) -> None:
        self.failed = ""
        self._client = client

    def get(self, key: object) -> dict[str, Any]:
        """Return which hosts know a name or an address (docs/reference/fleet.md).

        Raises:
            DataNotFound: No host knows it.
            KeyNotSupported: The key is no string.
            Unavailable: No store answers: the events of the entry come again.
        """
        return self._ask("get", key=key)

    def first_hosts(self, name: str, most: int) -> FirstHosts:
        """Return the hosts that asked for a name first, the earliest first, and at most so many.

        Raises:
            Unavailable: No store answers: the events of the entry come again.
        """
        data = self._ask("first", name=name, limit=most)
        return FirstHosts([(one["host"], one["first"]) for one in data["hosts"]], data["since"])

    def alone(self, name: str) -> LoneHost:
        """Return the host that alone asked for a name.

        Raises:
            Unavailable: No store answers: the events of the entry come again.
        """
        data = self._ask("alone", name=name)
        return LoneHost(data["host"], data["first"], data["since"])

    def claim(self, signature: SignatureMetadata, subject: str, event: Event) -> Claim:
        """Claim a subject for an event. Of all workers and all events, one is the first one, also if it comes again.

        Raises:
            Unavailable: No store answers: the events of the entry come again.
        """
        data = self._ask("claim", signature=signature.id, subject=subject, event=event.id)
        return Claim(data["is_first"], data["since"])

    def schema(self) -> str:
        """Return the shape of a result of `get` as JSON."""
        return '{"key":"string","ip_addresses":"[]string","dns_queries":"[]string","hosts":"[]object"}'

    def keys(self) -> list[str]:
        """Return the types of key that `get` accepts."""
        return ["string"]

    def version(self) -> int:
        """Return the version of the schema."""
        return 1

    def namespace(self) -> str:
        """Return the namespace."""
        return "dnstrail"

    def id(self) -> str:
        """Return the id."""
        return "fleet"

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _ask(self, op: str, **fields: object) -> dict[str, Any]:
        for left in reversed(range(_TRIES)):
            try:
                data: dict[str, Any] = self._client.request(op, **fields)["data"]
            except Unavailable as error:
                self.failed = f"no store answers at {error.address}: is `dnstrail fleet store` running?"
                raise
            except LookupRefused as error:
                if error.code != OVERLOADED or not left:
                    raise
            else:
                return data
        raise AssertionError("unreachable")


class FleetSignature(Signature):
    """A signature over the relations that hosts sent first. `_fleet` is the store."""

    selected_events: ClassVar[tuple[EventSelector, ...]] = (EventSelector(name=DNS_RELATION_NEW),)

    def init(self, ctx: SignatureContext) -> None:
        """Take the store.

        Raises:
            DataSourceMissing: This run has none.
        """
        super().init(ctx)
        found = ctx.get_data_source("dnstrail", "fleet")
        if not isinstance(found, FleetDataSource):
            raise DataSourceMissing("dnstrail", "fleet")
        self._fleet = found
