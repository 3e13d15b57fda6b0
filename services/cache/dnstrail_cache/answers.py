"""The answers to requests: one function for each operation, found by the type of its request (docs/lookups.md)."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import msgspec

from dnstrail.dns.names import lookup_key
from dnstrail.image.trails.names import AddressNames
from dnstrail.protocol.lookups import (
    BAD_REQUEST,
    DATA_NOT_FOUND,
    SCHEMA,
    ConnectionTo,
    Get,
    GetMany,
    Health,
    Keys,
    Lost,
    Rank,
    RefusedError,
    Request,
    Schema,
    Stats,
    Trail,
    Version,
)
from dnstrail_cache.losses import losses_by_hop, worst_cgroups
from dnstrail_cache.state import CacheState

_MAX_NODES = 65536  # names and addresses in one reply: no request may delay all others
_RANKING = 0.02  # seconds for all connections of one request, for the same reason


@singledispatch
def answer(request: Request, _state: CacheState) -> Any:
    """Return the data of the reply.

    Raises:
        RefusedError: there are no data for the request.
    """
    raise RefusedError(BAD_REQUEST, f"this cache has no answer to {type(request).__name__}")


@answer.register
def _get(request: Get, state: CacheState) -> dict[str, Any]:
    data = _look_up(request.key, state, now=state.now, at=request.at)
    if data is None:
        raise RefusedError(DATA_NOT_FOUND, "requested data was not found")
    return data


@answer.register
def _get_many(request: GetMany, state: CacheState) -> list[dict[str, Any] | None]:
    """Look up each key once, in whatever spellings it is repeated; all results share one bound."""
    found: dict[str | None, dict[str, Any] | None] = {}
    results: list[dict[str, Any] | None] = []
    now, budget = state.now, _MAX_NODES
    for key in request.keys:
        node = lookup_key(key)
        if node not in found:
            found[node] = _look_up(key, state, now=now, at=request.at, budget=budget)
        results.append(_cut(found[node], budget))
        budget -= _size(results[-1])
    return results


@answer.register
def _trail(request: Trail, state: CacheState) -> dict[str, Any]:
    trails = state.image.trails(request.key, request.connection, now=state.now, at=request.at)
    if trails is None:
        raise RefusedError(DATA_NOT_FOUND, "requested data was not found")
    data: dict[str, Any] = msgspec.to_builtins(trails)
    data["history"] = _is_remembered(data.pop("exact"), request.at, state)
    return data


@answer.register
def _rank(request: Rank, state: CacheState) -> list[list[str]]:
    """Rank the names of each different connection once, for a bounded time; the reply has a bounded number of names.

    After that time a connection gets the names of its address in the order of a lookup if the address was looked up for
    an earlier connection, and none otherwise.
    """
    of_address: dict[str, AddressNames] = {}
    ranked: dict[ConnectionTo, list[str]] = {}
    replies: list[list[str]] = []
    now, budget, until = state.now, _MAX_NODES, state.clock.monotonic() + _RANKING
    for to in request.connections:
        if to not in ranked and budget > 0 and state.clock.monotonic() < until:
            if to.address not in of_address:
                of_address[to.address] = state.image.names_of_address(to.address, now=now, at=request.at, nodes=budget)
            ranked[to] = _likeliest(of_address[to.address], to, state)
        elif to not in ranked:
            state.counters["rank_cut_short"] += 1
        plain = of_address[to.address].plain if to.address in of_address else []
        replies.append(ranked.get(to, plain)[:budget])
        budget -= len(replies[-1])
    return replies


@answer.register
def _schema(_request: Schema, _state: CacheState) -> str:
    return SCHEMA


@answer.register
def _keys(_request: Keys, _state: CacheState) -> list[str]:
    return ["string"]


@answer.register
def _version(_request: Version, _state: CacheState) -> int:
    return 1


@answer.register
def _stats(_request: Stats, state: CacheState) -> dict[str, Any]:
    return {
        "image": state.image_counters,
        "admission": state.admission_counters,
        "cache": dict(state.counters),
        "lost": losses_by_hop(state.probes, state.follower.lost, state.image.counters, state.losses.total),
        "lost_by_cgroup": worst_cgroups(state.probes),
        "probes": {probe.start: {"live": probe.live, **probe.counters} for probe in state.probes},
    }


@answer.register
def _health(_request: Health, state: CacheState) -> dict[str, Any]:
    """Report the status of the probes, whether an event was applied (`fed`), and up to when (`now`)."""
    probes = state.probes
    return {
        "status": state.status,
        "fed": state.applied > 0,
        "probes": len(probes),
        "turns": {probe.start: probe.turn for probe in probes},
        "ended": bool(probes) and all(probe.ended for probe in probes),
        "now": state.now if probes and state.image.counters["messages"] else None,
    }


@answer.register
def _lost(request: Lost, state: CacheState) -> None:
    state.losses.note(request.worker, request.lost)


def _likeliest(names: AddressNames, to: ConnectionTo, state: CacheState) -> list[str]:
    if names.crowded:
        state.counters["rank_crowded"] += 1
    return names.likeliest(to.connection)


def _look_up(
    key: str, state: CacheState, *, now: float, at: float | None, budget: int = _MAX_NODES
) -> dict[str, Any] | None:
    """Return the result for one key with at most `budget` names and addresses, or None."""
    found = state.image.get(key, now=now, at=at, nodes=max(budget, 1))
    state.counters["misses" if found is None else "hits"] += 1
    if found is None:
        return None
    return {**found.fields, "history": _is_remembered(found.exact, at, state)}


def _size(data: dict[str, Any] | None) -> int:
    return len(data["dns_queries"]) + len(data["ip_addresses"]) if data else 0


def _cut(data: dict[str, Any] | None, budget: int) -> dict[str, Any] | None:
    """Return a result with about `budget` names and addresses at most, and at least one of each."""
    if data is None or _size(data) <= budget:
        return data
    most = max(budget // 2, 1)
    lists = {name: data[name][:most] for name in ("ip_addresses", "dns_queries")}
    return {**data, **lists, "truncated": True}


def _is_remembered(exact: bool, at: float | None, state: CacheState) -> bool:
    """Return whether a result contains all that was live at `at`."""
    return exact and (at is None or state.image.remembers(at))
