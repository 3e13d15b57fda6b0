"""The answers to requests: one function for each operation, by the type of its request (docs/reference/lookups.md)."""

from __future__ import annotations

from functools import singledispatch
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from dnstrail.connection import Connection
from dnstrail.image import LookupResult, Trails
from dnstrail.image import Trail as FoundTrail
from dnstrail.image.first_trail import FirstTrail
from dnstrail.image.open_connections import ConnectionPage
from dnstrail.image.trails.names import AddressNames
from dnstrail.image.trails.server_names import SeenServerName
from dnstrail.image.trails.trail import Asker
from dnstrail.protocol.lookups import (
    BAD_REQUEST,
    DATA_NOT_FOUND,
    SCHEMA,
    ConnectionsRequest,
    ConnectionTo,
    DumpRequest,
    GetManyRequest,
    GetRequest,
    HealthRequest,
    JoinRequest,
    KeysRequest,
    LostRequest,
    RankRequest,
    RefusedRequestError,
    Request,
    SchemaRequest,
    StatsRequest,
    TrailManyRequest,
    TrailRequest,
    VersionRequest,
)
from dnstrail.protocol.members import Members
from dnstrail_cache.groups.groups import failed_signatures, group_stats
from dnstrail_cache.lookups.first_trails import first_trails
from dnstrail_cache.lookups.open_connections import (
    KnownConnection,
    find_connection,
    page_of_connections,
)
from dnstrail_cache.losses import losses_by_hop, losses_by_host, worst_cgroups, worst_owners
from dnstrail_cache.state.cache_state import CacheState
from dnstrail_cache.state.dumps import Page

Seen = TypeVar("Seen", FoundTrail, Asker, SeenServerName)
Found = TypeVar("Found", LookupResult, LookupResult | None)
#: nodes in one reply to `get_many`, and names in one to `rank` -> `truncated` is true; further connections of a `rank`
#: have no names: `rank_cut_short`
_MAX_NODES = 65536  # since no request may delay all others
#: relations, paths and answers that the connections of one `rank` read -> further connections have the names of an
#: address that was looked up, in the order of `get`, or none: `rank_cut_short`
_MAX_WORK = 16384  # about 20 ms, for the same reason


class IncompleteHistory(msgspec.Struct, frozen=True):
    """Data without results for keys of a time about which the cache no longer knows everything."""

    data: Any


@singledispatch
def answer(request: Request, _state: CacheState) -> Any:
    """Return the data of the reply.

    Raises:
        RefusedError: there are no data for the request.
    """
    raise RefusedRequestError(BAD_REQUEST, f"this cache has no answer to {type(request).__name__}")


@answer.register
def _get(request: GetRequest, state: CacheState) -> LookupResult:
    at = state.moment(request.at, request.at_ns, request.event)
    found = state.image.get(request.key, now=state.now, at=at, connection=request.described)
    _count(found, state)
    if found is None:
        raise _not_found(request.key, at, state, request.connection)
    return _with_hosts([found], state)[0]


@answer.register
def _get_many(request: GetManyRequest, state: CacheState) -> list[LookupResult | None] | IncompleteHistory:
    """Look up all keys as of one moment; the reply has a bounded number of names and addresses."""
    at = state.moment(request.at, request.at_ns, request.event)
    results = state.image.get_many(request.keys, now=state.now, at=at)
    for found in results:
        _count(found, state)
    if sum(map(_size, results)) > _MAX_NODES:
        results = _shortened(results)
    results = _with_hosts(results, state)
    return IncompleteHistory(results) if None in results and not _remembers(at, state) else results


@answer.register
def _trail(request: TrailRequest, state: CacheState) -> Trails:
    at = state.moment(request.at, request.at_ns, request.event)
    trails = state.image.trails(request.key, request.connection, now=state.now, at=at, limit=request.limit)
    if trails is None:
        raise _not_found(request.key, at, state, request.connection)
    return _shown(trails, state)


@answer.register
def _rank(request: RankRequest, state: CacheState) -> list[list[str]]:
    """Rank the names of each different connection once, with bounded work; the reply has a bounded number of names.

    Beyond this work a connection gets the name to which it is bound, then the names of its address in the order of a
    lookup if the address was looked up for an earlier connection.
    """
    walks: dict[tuple[str, int | None], AddressNames] = {}
    plain: dict[str, list[str]] = {}
    ranked: dict[ConnectionTo, list[str]] = {}
    replies: list[list[str]] = []
    at = state.moment(request.at, request.at_ns)
    budget, work = _MAX_NODES, 0
    for to in request.connections:
        begins = to not in ranked and budget > 0 and work < _MAX_WORK
        known = find_connection(to, at, state, search=begins)
        if begins:
            walk = to.address, known.at
            if walk not in walks:
                walks[walk] = state.image.names_of_address(to.address, now=state.now, at=known.at)
            plain[to.address] = walks[walk].plain
            ranked[to] = _likeliest(walks[walk], known, state)
            work += walks[walk].take_work() + known.work
        elif to not in ranked:
            state.counters["rank_cut_short"] += 1
        names = ranked[to] if to in ranked else known.first(plain.get(to.address, []))
        replies.append(names[:budget])
        budget -= len(replies[-1])
    return replies


@answer.register
def _trail_many(request: TrailManyRequest, state: CacheState) -> list[FirstTrail]:
    return first_trails(request, state)


@answer.register
def _connections(request: ConnectionsRequest, state: CacheState) -> ConnectionPage:
    return page_of_connections(request, state)


@answer.register
def _schema(_request: SchemaRequest, _state: CacheState) -> str:
    return SCHEMA


@answer.register
def _keys(_request: KeysRequest, _state: CacheState) -> list[str]:
    return ["string"]


@answer.register
def _version(_request: VersionRequest, _state: CacheState) -> int:
    return 1


@answer.register
def _stats(_request: StatsRequest, state: CacheState) -> dict[str, Any]:
    workers, beyond = state.losses.counted(state.published.most_missed)
    return {
        "image": state.image_counters,
        "admission": state.admission_counters,
        "cache": {**state.counters, **state.groups.counters, "losses_beyond_published": beyond},
        "lost": losses_by_hop(state.probes, state.lost_on_bus, state.image.counters, workers),
        "lost_by_cgroup": worst_cgroups(state.probes),
        "lost_by_host": losses_by_host(state.probes, state.follower.missed),
        "skipped_by_owner": worst_owners(state.skipped.by_owner),
        "probes": {probe.start: {"live": probe.live, **probe.counters} for probe in state.probes},
        "groups": group_stats(state.groups.living(state.clock.monotonic()), state.probes),
    }


@answer.register
def _health(_request: HealthRequest, state: CacheState) -> dict[str, Any]:
    """Report the status of probes and signatures, whether an event was applied (`fed`), and up to when (`now`)."""
    probes = state.probes
    return {
        "status": state.status,
        "fed": state.applied.total() > 0,
        "probes": len(probes),
        "turns": {probe.start: probe.turn for probe in probes},
        "ended": bool(probes) and all(probe.ended for probe in probes),
        "signatures": failed_signatures(state.groups.living(state.clock.monotonic())),
        "now": state.wall(state.now) if probes and state.image.counters["messages"] else None,
    }


@answer.register
def _dump(request: DumpRequest, state: CacheState) -> Page:
    """Return one page. All addresses are unix sockets, so that a dump never leaves the host."""
    difference = state.stream.difference() if state.live else 0
    page = state.dumps.page(state.image, request.cursor, difference, state.clock.monotonic)
    if page is None:
        raise RefusedRequestError(
            BAD_REQUEST, "no dump has this cursor: it ended, or too many others began; begin again"
        )
    return page


@answer.register
def _lost(request: LostRequest, state: CacheState) -> None:
    state.losses.report(request.user, request.worker, request.lost)


@answer.register
def _join(request: JoinRequest, state: CacheState) -> Members:
    return state.groups.join(request, state.clock.monotonic(), state.last_turn)


def _remembers(at: int | None, state: CacheState, connection: Connection | None = None) -> bool:
    """Return whether the cache knows everything about the time of a lookup."""
    return at is None or state.image.remembers(at, connection)


def _not_found(key: str, at: int | None, state: CacheState, connection: Connection) -> RefusedRequestError:
    failure = state.image.failed(key, at, connection.host)
    asked = None if failure is None else replace(failure.shown(state.wall(failure.stamp)), **_hidden(state))
    return RefusedRequestError(
        DATA_NOT_FOUND,
        "requested data was not found",
        history=_remembers(at, state, connection),
        asked=None if asked is None else msgspec.to_builtins(asked),
    )


def _with_hosts(results: list[Found], state: CacheState) -> list[Found]:
    """Return results with the hosts that asked for their roots, where the cache follows several."""
    if not state.several:
        return results
    hosts = {name: state.image.hosts_of(name) for name in {one.dns_root for one in results if one is not None}}
    return [one if one is None else replace(one, hosts=hosts[one.dns_root]) for one in results]


def _hidden(state: CacheState) -> dict[str, msgspec.UnsetType]:
    """Return the fields of an asker that a reply lacks: the host, where the cache follows one alone."""
    return {} if state.several else {"host": msgspec.UNSET}


def _likeliest(names: AddressNames, known: KnownConnection, state: CacheState) -> list[str]:
    if names.crowded:
        state.counters["rank_crowded"] += 1
    return names.likeliest(known.connection, known.bound)


def _count(found: LookupResult | None, state: CacheState) -> None:
    state.counters["misses" if found is None else "hits"] += 1


def _size(found: LookupResult | None) -> int:
    return len(found.dns_queries) + len(found.ip_addresses) if found else 0


def _shortened(results: list[LookupResult | None]) -> list[LookupResult | None]:
    """Return the results in their order until the bound of a reply is reached, and at least a part of the others."""
    budget = _MAX_NODES
    shortened: list[LookupResult | None] = []
    for found in results:
        shortened.append(_cut(found, budget))
        budget -= _size(shortened[-1])
    return shortened


def _cut(found: LookupResult | None, budget: int) -> LookupResult | None:
    """Return a result with about `budget` names and addresses at most, and at least one of each."""
    if found is None or _size(found) <= budget:
        return found
    most = max(budget // 2, 1)
    addresses, names = found.ip_addresses[:most], found.dns_queries[:most]
    return replace(found, ip_addresses=addresses, dns_queries=names, truncated=True)


def _shown(trails: Trails, state: CacheState) -> Trails:
    """Return trails with their times in wall time, which may be ahead of the stream, and with the hosts of several."""
    difference, hidden = state.wall(0), _hidden(state)
    shown = [
        replace(_shifted(trail, difference), asked=[_shifted(one, difference, **hidden) for one in trail.asked])
        for trail in trails.trails
    ]
    return replace(trails, trails=shown, server_names=[_shifted(one, difference) for one in trails.server_names])


def _shifted(seen: Seen, difference: float, **others: object) -> Seen:
    return replace(seen, first_seen=seen.first_seen + difference, last_seen=seen.last_seen + difference, **others)
