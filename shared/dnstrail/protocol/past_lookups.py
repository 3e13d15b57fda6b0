"""Lookups of a past time on their way from the cache to the worker of the history, and its replies."""

from __future__ import annotations

from typing import Annotated, Literal

import msgpack
import msgspec

from dnstrail.errors import BadMessage
from dnstrail.protocol.batches import unpack
from dnstrail.protocol.lookups import (
    BAD_REQUEST,
    ConnectionsRequest,
    GetManyRequest,
    GetRequest,
    RefusedRequestError,
    Request,
    TrailManyRequest,
    TrailRequest,
    decode_request,
)

HISTORY = "history"  # `source` of a reply
# the requests that it answers
OF_THE_PAST = GetRequest | GetManyRequest | TrailRequest | TrailManyRequest | ConnectionsRequest
#: seconds that a lookup of a past time waits for the history -> the cache answers by itself, with `history` false:
#: `past_unanswered`
PATIENCE = 0.4  # a client waits half a second for each of its tries
_PAST = "past"  # the field that the cache adds to a request
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


class PastImage(msgspec.Struct, frozen=True):
    """The image that a lookup of a past time is for: that of the cache which forwards it.

    `grace` and `history` are its bounds in seconds, and `several` states that it follows several hosts.
    """

    grace: _Seconds
    history: _Seconds
    several: bool = False


class _Reply(msgspec.Struct):
    """The fields of a reply of the history that the cache checks before it hands the reply on."""

    v: Literal[1]
    ok: bool
    source: Literal["history"]


_REPLY = msgspec.msgpack.Decoder(_Reply)


def encode_past(body: bytes, image: PastImage) -> bytes:
    """Return a request, whose body was checked, as it is forwarded."""
    return msgpack.packb({**unpack(body), _PAST: msgspec.to_builtins(image)})


def decode_past(body: bytes) -> tuple[Request, PastImage]:
    """Return a forwarded request, and the image that it is for.

    Raises:
        RefusedRequestError: it is no valid request, or was not forwarded.
    """
    request = decode_request(body)
    try:
        return request, msgspec.convert(unpack(body).get(_PAST), PastImage)
    except (msgspec.ValidationError, BadMessage) as error:
        raise RefusedRequestError(BAD_REQUEST, f"the cache forwards lookups of the past: {error}") from error


def is_reply(body: bytes) -> bool:
    """Return whether some bytes are a reply of the history."""
    try:
        _REPLY.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return False
    return True
