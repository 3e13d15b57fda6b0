"""The connections of a past time: those that were open, and what led to answers, as segments state them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address
from typing import Final, NamedTuple

from dnstrail.dns.names import known_address
from dnstrail.history.fact import FactId, StageFact
from dnstrail.history.open_stages import begin_of, has_gap
from dnstrail.image import Image
from dnstrail.image.binding.binder import connection_of
from dnstrail.image.binding.bindings import NAMED, OPENED, RESULT, SAID, Binding, ConnectionOpening
from dnstrail.image.trails.server_names import MAX_NAMES_OF_ADDRESS, ServerNameSighting
from dnstrail_history.past.segment_readers import SegmentReader

#: connections to the addresses of a past trail that it applies -> `history` is false
MOST_CONNECTIONS: Final = 4096


class OpenThen(NamedTuple):
    """The connections that were open at a time, the first opened first. `whole` states that none is missing."""

    bindings: list[Binding]
    whole: bool


class ConnectionEvent(NamedTuple):
    """What a connection did at a time (ns), as the image applied it then."""

    time: int
    apply: Callable[[Image], None]


def open_then(
    segments: Sequence[SegmentReader], at: int, is_over: Callable[[], bool], address: str | None = None
) -> OpenThen:
    """Return the connections that were open at a time, to an address if one is named.

    The segment of this time states those that were open at its begin. A fact may stand in a later segment. `is_over`
    ends the reading early.
    """
    base = next((place for place, one in enumerate(segments) if one.last_ended > at), len(segments) - 1)
    if base < 0:
        return OpenThen([], whole=False)
    packed = None if address is None else ip_address(address).packed
    found: dict[FactId, list[StageFact]] = {}
    begins: list[int] = []
    restarted, cut, number = 0, False, segments[base].number
    for place in range(base, len(segments)):
        segment = segments[place]
        if place == base or segment.first <= at:
            if is_over() or segment.number != number + place - base:
                cut = True
                break
            stages, ended, began = segment.open_stages(at, packed, carried=place == base)
            for identity in ended:
                found.pop(identity, None)
            for identity, some in stages.items():
                found.setdefault(identity, []).extend(some)
            restarted = max(restarted, began)
            begins += [stretch.since for stretch in segment.stretches]
    bindings = [binding_of(stages) for stages in found.values()]
    follows = base == 0 or segments[base - 1].number + 1 == number
    return OpenThen(
        sorted((one for one in bindings if restarted < one.stamp <= at), key=_stamp_of),
        whole=not cut
        and (restarted > 0 or (follows and segments[base].states_all))
        and not has_gap(begins, restarted, at),
    )


def binding_of(stages: Sequence[StageFact]) -> Binding:
    """Return a connection as its stages state it, in their order."""
    first = stages[0]
    name, by = first.values.name or "", first.values.bound or ""
    binding = Binding(begin_of(first), opening_of(first), *(("", "") if by in SAID else (name, by)))
    for stage in stages:
        binding.client, binding.client_port = known_address(stage.flow.source), stage.flow.source_port
        if stage.stage == RESULT:
            binding.connected, binding.concluded = stage.values.connected is True, stage.time
        elif stage.values.name and stage.values.bound in SAID and binding.said is None:
            binding.said = stage.values.name, stage.values.bound, stage.time
    return binding


def opening_of(stage: StageFact) -> ConnectionOpening:
    """Return the attempt of a connection."""
    flow, host = stage.flow, stage.host
    ends = flow.source, flow.source_port, flow.destination, flow.destination_port
    return ConnectionOpening(
        socket=(host, stage.values.socket) if stage.values.socket else (host, *ends),
        address=known_address(flow.destination),
        port=flow.destination_port,
        host=host,
        process=stage.process,
        client=known_address(flow.source),
        client_port=flow.source_port,
        namespace=flow.namespace,
        transport=flow.transport,
    )


class Openings(NamedTuple):
    """The openings of connections, in no order. `cut` states that a bound left some out."""

    stages: list[StageFact]
    cut: bool


def openings_to(
    segments: Iterable[SegmentReader],
    addresses: Iterable[str],
    ports: Sequence[int],
    since: int,
    until: int,
    is_over: Callable[[], bool],
) -> Openings:
    """Return the openings of connections to these ports of some addresses within a time."""
    packed = [ip_address(address).packed for address in addresses]
    found: list[StageFact] = []
    for segment in segments:
        if segment.first > until or segment.last_ended < since:
            continue
        if is_over() or len(found) >= MOST_CONNECTIONS:
            return Openings(found, cut=True)
        found += segment.stages_to(packed, OPENED, ports, since, until, MOST_CONNECTIONS - len(found))
    return Openings(found, cut=len(found) >= MOST_CONNECTIONS)


def names_sent_to(
    segments: Sequence[SegmentReader], address: str, until: int, is_over: Callable[[], bool]
) -> list[StageFact]:
    """Return the last stages before a time in which clients sent server names to an address, in their order."""
    packed = [ip_address(address).packed]
    found: list[StageFact] = []
    for segment in reversed(segments):
        if segment.first <= until and len(found) < MAX_NAMES_OF_ADDRESS and not is_over():
            found[:0] = segment.stages_to(packed, NAMED, (), 0, until, MAX_NAMES_OF_ADDRESS - len(found))
    return found


def opened(stage: StageFact) -> ConnectionEvent:
    """Return the opening of a connection, which counts for the answer that it followed."""

    def apply(image: Image) -> None:
        opening = opening_of(stage)
        _note_process(image, opening, stage.time)
        image.note_connection(stage.time, connection_of(opening), opening.address)

    return ConnectionEvent(stage.time, apply)


def bound(binding: Binding) -> ConnectionEvent:
    """Return the opening of a connection that was open, with the name to which it was bound."""

    def apply(image: Image) -> None:
        _note_process(image, binding.opening, binding.stamp)
        image.binder.bindings.open(binding)

    return ConnectionEvent(binding.stamp, apply)


def named(stage: StageFact) -> ConnectionEvent:
    """Return a server name that a client sent."""
    flow, values = stage.flow, stage.values
    client, port = known_address(flow.source), flow.destination_port
    sighting = ServerNameSighting(stage.time, values.name or "", values.bound or "", client, port)
    return ConnectionEvent(stage.time, lambda image: image.note_server_name(known_address(flow.destination), sighting))


def _note_process(image: Image, opening: ConnectionOpening, stamp: int) -> None:
    if (owner := opening.identity) is not None:
        image.binder.processes.note(owner, stamp)


def _stamp_of(binding: Binding) -> int:
    return binding.stamp
