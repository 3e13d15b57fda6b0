"""Requests to the store of the fleet: a MessagePack map each, with `v` and `op` as at the cache."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from dnstrail.dns.names import lookup_key
from dnstrail.protocol.lookups import BAD_REQUEST, KEY_NOT_SUPPORTED, MAX_KEY, RefusedRequestError, decode_map

#: rows, names or trails of a reply -> `bad_request`
MOST_FOUND: Final = 1_000
_Limit = Annotated[int, msgspec.Meta(ge=1, le=MOST_FOUND)]
_Seconds = Annotated[float, msgspec.Meta(ge=0, lt=1 << 40)]
_Host = Annotated[str, msgspec.Meta(max_length=256)]
_Text = Annotated[str, msgspec.Meta(max_length=MAX_KEY)]


class FleetRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op"):
    """A request that passed all checks."""

    limit: _Limit = 100  #: rows, names or trails of the reply


class _AboutKey(FleetRequest, frozen=True, kw_only=True):
    key: Any  #: a name or an address
    at: _Seconds | None = None  #: epoch seconds: only what may have been live at the end of this second
    before: _Seconds | None = None  #: epoch seconds: only rows whose last answer is earlier: `next` of the page before
    host: _Host | None = None  #: the name of a host: only its rows

    def __post_init__(self) -> None:
        if not isinstance(self.key, str):
            raise RefusedRequestError(KEY_NOT_SUPPORTED, f"queried key is not supported: {type(self.key).__name__}")
        if len(self.key.encode("utf-8", "replace")) > MAX_KEY:
            raise RefusedRequestError(BAD_REQUEST, f"a key of more than {MAX_KEY} bytes")

    @property
    def text(self) -> str:
        """The key in the form of the store, "" if it is neither a name nor an address."""
        return lookup_key(self.key) or ""


class FleetGetRequest(_AboutKey, frozen=True, kw_only=True, tag="get"):
    """The hosts that know a name or an address, each with names, addresses, askers and times, the newest first.

    With `at` each of them has `history`: whether names and addresses are exactly those that its own history has.
    """


class FleetTrailRequest(_AboutKey, frozen=True, kw_only=True, tag="trail"):
    """How each host and asker reached a name or an address, the newest first."""


class FleetHostsRequest(FleetRequest, frozen=True, tag="hosts"):
    """All hosts, with what they lost and how far they are behind."""


class FleetNewRequest(FleetRequest, frozen=True, kw_only=True, tag="new"):
    """The names that no host asked for before a time, the newest first."""

    since: _Seconds  #: epoch seconds


class FleetTopRequest(FleetRequest, frozen=True, kw_only=True, tag="top"):
    """The hosts, names or addresses of the newest day with the most answers."""

    what: Literal["hosts", "names", "addresses"]  #: what is counted


class FleetFirstRequest(FleetRequest, frozen=True, kw_only=True, tag="first"):
    """The hosts that asked for a name first, each with the time: those of its first two days, the earliest first."""

    name: _Text  #: the name, as rows have it


class FleetAloneRequest(FleetRequest, frozen=True, kw_only=True, tag="alone"):
    """The host that alone asked for a name, with the time at which it did first; no host if several did, or none."""

    name: _Text  #: the name, as rows have it


class FleetClaimRequest(FleetRequest, frozen=True, kw_only=True, tag="claim"):
    """Claim a subject for an event, if no other event has it; `is_first` states whether this one has it."""

    signature: _Text  #: the name of the signature
    subject: _Text  #: what is reported once, such as a domain
    event: _Text  #: the id of the event, which it keeps if it comes again


Asked = (
    FleetGetRequest
    | FleetTrailRequest
    | FleetHostsRequest
    | FleetNewRequest
    | FleetTopRequest
    | FleetFirstRequest
    | FleetAloneRequest
    | FleetClaimRequest
)


def read_request(body: bytes) -> Asked:
    """Return a request; `body` may hold anything.

    Raises:
        RefusedRequestError: It is no valid request; the text names the fault.
    """
    try:
        request: Asked = msgspec.convert(decode_map(body), Asked)
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, RefusedRequestError):
            raise error.__cause__ from None
        raise RefusedRequestError(BAD_REQUEST, str(error)) from error
    return request
