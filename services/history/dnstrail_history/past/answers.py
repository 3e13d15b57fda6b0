"""The answers to lookups of a past time: one function for each operation, as the cache has for the present."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import singledispatch
from typing import Any, Final, NamedTuple

from msgspec import UNSET
from msgspec.structs import replace

from dnstrail.connection import Connection
from dnstrail.dns.names import address_text, lookup_key
from dnstrail.image import Bounds, Image, LookupResult, Trail
from dnstrail.image.binding.bindings import Binding
from dnstrail.image.first_trail import FirstTrail, first_trail
from dnstrail.image.open_connections import ConnectionList, ConnectionPage, in_order, selects
from dnstrail.process.clock import nanoseconds
from dnstrail.protocol.lookups import (
    BAD_REQUEST,
    DATA_NOT_FOUND,
    ConnectionsRequest,
    ConnectionTo,
    GetManyRequest,
    GetRequest,
    RefusedRequestError,
    Request,
    TrailManyRequest,
    TrailRequest,
    encode_data,
    encode_error,
)
from dnstrail.protocol.past_lookups import HISTORY, OF_THE_PAST, PastImage, decode_past
from dnstrail_history.past.connections import OpenThen, open_then
from dnstrail_history.past.reading import NONE, PATIENCE, NeededConnections, Past, past_image
from dnstrail_history.past.segment_readers import SegmentReader
from dnstrail_history.past.segments import Segments

_PAGE: Final = 256  # connections of one page
_ADDRESSES: Final = 32  # of the connections of one page: the answers that lead to each are read


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
    until = monotonic() + PATIENCE
    try:
        request, present = decode_past(body)
        at = _time_of(request)
        with segments.opened(lambda: monotonic() > until) as opened:
            reading = PastReading(opened, at, present, lambda: monotonic() > until)
            data, whole = answer(request, reading)
    except RefusedRequestError as refused:
        return encode_error(refused, source=HISTORY)
    return encode_data(data, history=whole, source=HISTORY)


def _time_of(request: Request) -> int:
    """Return the time of a request (ns)."""
    if not isinstance(request, OF_THE_PAST):
        raise RefusedRequestError(BAD_REQUEST, f"the history has no answer to {type(request).__name__}")
    at = request.at_ns if request.at is None else nanoseconds(request.at)
    if isinstance(request, TrailManyRequest):
        times = [to.at_ns if at is None else at for to in request.connections] or [0]
        at = None if None in times else times[0]
    if at is None:
        raise RefusedRequestError(BAD_REQUEST, "the history answers lookups of a past time")
    return at


class PastReading(NamedTuple):
    """The segments from which a lookup reads, its time (ns), and the image of the cache that forwards it."""

    segments: Sequence[SegmentReader]
    at: int
    present: PastImage
    is_over: Callable[[], bool]

    def image(
        self,
        keys: Iterable[str],
        connections: NeededConnections = NONE,
        *,
        with_ended: bool,
        decisive: bool = False,
    ) -> Past:
        """Return the image of the time for some keys."""
        bounds = Bounds(grace=self.present.grace, history=self.present.history)
        return past_image(
            self.segments,
            keys,
            self.at,
            bounds,
            self.is_over,
            with_ended=with_ended,
            decisive=decisive,
            connections=connections,
        )

    def asked(self, given: Sequence[str], connection: Connection | None = None, *, with_ended: bool = False) -> _Asked:
        """Return the image for the keys of a request, and the connection that it is about."""
        keys = {key for text in given if (key := lookup_key(text))}
        address = next((key for key in keys if address_text(key)), None)
        open_ones = OpenThen([], whole=True)
        if connection is not None and connection.means_one and address is not None:
            open_ones = open_then(self.segments, self.at, self.is_over, address)
        port = None if connection is None else connection.port
        ports = frozenset({port} if with_ended and port is not None else ())
        needed = NeededConnections(open_ones.bindings, ports, server_names=with_ended and address is not None)
        is_of_all = (connection is None or not connection.fields) and not self.present.several
        past = self.image(keys, needed, with_ended=with_ended, decisive=is_of_all and not with_ended)
        return _Asked(past.image, self.at, past.whole and open_ones.whole, self.present.several)


@singledispatch
def answer(request: Request, reading: PastReading) -> tuple[Any, bool]:
    """Return the data of a reply, and whether nothing is missing where it has none."""
    raise NotImplementedError(type(request).__name__)


@answer.register
def _get(request: GetRequest, reading: PastReading) -> tuple[Any, bool]:
    asked = reading.asked([request.key], request.described)
    found = asked.result(asked.image.get(request.key, now=asked.at, connection=request.described))
    if found is None:
        raise asked.not_found()
    return found, True


@answer.register
def _get_many(request: GetManyRequest, reading: PastReading) -> tuple[Any, bool]:
    asked = reading.asked(request.keys)
    results = [asked.result(found) for found in asked.image.get_many(request.keys, now=asked.at)]
    return results, asked.whole or None not in results


@answer.register
def _trail(request: TrailRequest, reading: PastReading) -> tuple[Any, bool]:
    asked = reading.asked([request.key], request.connection, with_ended=True)
    trails = asked.image.trails(request.key, request.connection, now=asked.at, limit=request.limit)
    if trails is None:
        raise asked.not_found()
    return replace(trails, trails=[_shown(one, asked) for one in trails.trails], history=asked.whole), True


@answer.register
def _trail_many(request: TrailManyRequest, reading: PastReading) -> tuple[Any, bool]:
    """Answer one connection at least, and no more once the time is over: the next one would lack answers."""
    has_time = request.at is not None or request.at_ns is not None
    found: list[FirstTrail] = []
    for to in request.connections:
        at = reading.at if has_time or to.at_ns is None else to.at_ns
        trail = _first_trail(to, reading._replace(at=at))
        if found and reading.is_over():
            break
        found.append(trail)
    return found, True


def _first_trail(to: ConnectionTo, reading: PastReading) -> FirstTrail:
    asked = reading.asked([to.address], to.on_host, with_ended=True)
    address = address_text(to.address) or ""
    return first_trail(asked.image, address, to.on_host, now=asked.at, at=None, whole=asked.whole)


@answer.register
def _connections(request: ConnectionsRequest, reading: PastReading) -> tuple[Any, bool]:
    at, several = reading.at, reading.present.several
    opened = open_then(reading.segments, at, reading.is_over)
    chosen = (one for one in opened.bindings if selects(request.described, one.opening.host, one.opening.process))
    rest = in_order(chosen, request.cursor, 0)
    page: list[Binding] = []
    addresses: set[str] = set()
    following = ""
    for binding, cursor in rest[:_PAGE]:
        if len(addresses | {binding.opening.address}) > _ADDRESSES:
            break
        addresses.add(binding.opening.address)
        page.append(binding)
        following = cursor
    ports = frozenset(one.opening.port for one in page if request.rivals)
    past = reading.image(
        addresses, NeededConnections(ports=ports, server_names=request.rivals), with_ended=request.rivals
    )
    listed = ConnectionList(past.image, at, None, 0, rivals=request.rivals)
    following = following if len(page) < len(rest) else ""
    shown = [listed.shown(one) for one in page]
    return ConnectionPage(shown, following, 1 + several, past.whole and opened.whole), True


def _shown(trail: Trail, asked: _Asked) -> Trail:
    """Return a trail without hosts where the cache follows one alone."""
    return trail if asked.several else replace(trail, asked=[replace(one, host=UNSET) for one in trail.asked])
