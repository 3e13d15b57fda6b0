"""The answers to lookups of a past time: one function for each operation, as the cache has for the present."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import singledispatch
from typing import Any, NamedTuple

from msgspec import UNSET
from msgspec.structs import replace

from dnstrail.dns.names import lookup_key
from dnstrail.image import Bounds, Image, LookupResult, Trail
from dnstrail.process.clock import nanoseconds
from dnstrail.protocol.lookups import (
    BAD_REQUEST,
    DATA_NOT_FOUND,
    GetManyRequest,
    GetRequest,
    RefusedRequestError,
    Request,
    TrailRequest,
    encode_data,
    encode_error,
)
from dnstrail.protocol.past_lookups import HISTORY, PastImage, decode_past
from dnstrail_history.past.reading import PATIENCE, past_image
from dnstrail_history.past.segments import Segments


class _Asked(NamedTuple):
    """The image of a past time (ns), whether all is known about it, and whether it follows several hosts."""

    image: Image
    at: int
    whole: bool
    several: bool

    def result(self, found: LookupResult | None) -> LookupResult | None:
        """Return a result as the reply contains it."""
        if found is None:
            return None
        hosts = self.image.hosts_of(found.dns_root) if self.several else UNSET
        return replace(found, history=found.history and self.whole, hosts=hosts)

    def not_found(self) -> RefusedRequestError:
        """Return the refusal for a key that nothing touches."""
        return RefusedRequestError(DATA_NOT_FOUND, "requested data was not found", history=self.whole)


def answer_past(body: bytes, segments: Segments, monotonic: Callable[[], float] = time.monotonic) -> bytes:
    """Return the reply to a request that the cache forwarded; any bytes get one.

    A segment that cannot be read is left out: `history` is then false.
    """
    try:
        request, present = decode_past(body)
        data, whole = _answer(request, _asked(request, present, segments, monotonic))
    except RefusedRequestError as refused:
        return encode_error(refused, source=HISTORY)
    return encode_data(data, history=whole, source=HISTORY)


def _asked(request: Request, present: PastImage, segments: Segments, monotonic: Callable[[], float]) -> _Asked:
    """Return the image of the time of a request."""
    if not isinstance(request, GetRequest | GetManyRequest | TrailRequest):
        raise RefusedRequestError(BAD_REQUEST, f"the history has no answer to {type(request).__name__}")
    at = request.at_ns if request.at is None else nanoseconds(request.at)
    if at is None:
        raise RefusedRequestError(BAD_REQUEST, "the history answers lookups of a past time")
    given = request.keys if isinstance(request, GetManyRequest) else (request.key,)
    keys = {key for text in given if (key := lookup_key(text))}
    bounds = Bounds(grace=present.grace, history=present.history)
    until = monotonic() + PATIENCE

    def is_over() -> bool:
        return monotonic() > until

    with segments.opened(is_over) as opened:
        past = past_image(opened, keys, at, bounds, is_over, with_ended=isinstance(request, TrailRequest))
    return _Asked(past.image, at, past.whole, present.several)


@singledispatch
def _answer(request: Request, asked: _Asked) -> tuple[Any, bool]:
    """Return the data of a reply, and whether nothing is missing where it has none."""
    raise NotImplementedError(type(request).__name__)


@_answer.register
def _get(request: GetRequest, asked: _Asked) -> tuple[Any, bool]:
    found = asked.result(asked.image.get(request.key, now=asked.at, connection=request.described))
    if found is None:
        raise asked.not_found()
    return found, True


@_answer.register
def _get_many(request: GetManyRequest, asked: _Asked) -> tuple[Any, bool]:
    results = [asked.result(found) for found in asked.image.get_many(request.keys, now=asked.at)]
    return results, asked.whole or None not in results


@_answer.register
def _trail(request: TrailRequest, asked: _Asked) -> tuple[Any, bool]:
    trails = asked.image.trails(request.key, request.connection, now=asked.at, limit=request.limit)
    if trails is None:
        raise asked.not_found()
    return replace(trails, trails=[_shown(one, asked) for one in trails.trails], history=asked.whole), True


def _shown(trail: Trail, asked: _Asked) -> Trail:
    """Return a trail without hosts where the cache follows one alone."""
    return trail if asked.several else replace(trail, asked=[replace(one, host=UNSET) for one in trail.asked])
