"""The answers to requests: one function for each operation, found by the type of its request (docs/lookups.md)."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import msgspec

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
from dnstrail_cache.losses import losses_by_hop
from dnstrail_cache.state import CacheState

_MAX_NODES = 65536  # names and addresses in one reply: no request may delay all others


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
    found: dict[str, dict[str, Any] | None] = {}
    now, budget = state.now, _MAX_NODES
    for key in request.keys:
        if key not in found:
            data = found[key] = _look_up(key, state, now=now, at=request.at, budget=budget)
            budget -= len(data["dns_queries"]) + len(data["ip_addresses"]) if data else 0
    return [found[key] for key in request.keys]


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
    found: dict[ConnectionTo, list[str]] = {}
    now, budget = state.now, _MAX_NODES
    for to in request.connections:
        if to not in found:
            names = state.image.names_of_connection(
                to.address, to.connection, now=now, at=request.at, nodes=max(budget, 1)
            )
            found[to] = names[: max(budget, 0)]
            budget -= len(found[to])
    return [found[to] for to in request.connections]


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


def _look_up(
    key: str, state: CacheState, *, now: float, at: float | None, budget: int = _MAX_NODES
) -> dict[str, Any] | None:
    """Return the result for one key with at most `budget` names and addresses, or None."""
    found = state.image.get(key, now=now, at=at, nodes=max(budget, 1))
    state.counters["misses" if found is None else "hits"] += 1
    if found is None:
        return None
    return {**found.fields, "history": _is_remembered(found.exact, at, state)}


def _is_remembered(exact: bool, at: float | None, state: CacheState) -> bool:
    """Return whether a result contains all that was live at `at`."""
    return exact and (at is None or state.image.remembers(at))
