"""The answers to requests: one function an operation (DESIGN 4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from dnstrail.image import LookupResult
from dnstrail.protocol.lookups import DATA_NOT_FOUND, SCHEMA, RefusedError, Request
from dnstrail_cache.losses import losses
from dnstrail_cache.state import Feed

_MAX_NODES = 65536  # in one reply, lest one request hold all others up


def answer(request: Request, feed: Feed) -> Any:
    """The data of the reply.

    Raises:
        RefusedError: nothing is known under the key.
    """
    return _ANSWERS[request.op](request, feed)


def stats(feed: Feed) -> dict[str, Any]:
    """What was seen, kept, answered and lost, hop by hop."""
    image = feed.image
    return {
        "image": {"roots": len(image), "relations": image.store.relations, **image.counters},
        "admission": dict(image.admission.counters),
        "cache": dict(feed.counters),
        "lost": losses(feed.turns.probes, feed.turns.lost, image.counters, feed.missed.together),
        "probes": {probe.start: {"live": probe.live, **probe.counters} for probe in feed.turns.probes},
    }


def health(feed: Feed) -> dict[str, Any]:
    """Whether a probe is heard, and up to when its events were applied."""
    probes = feed.turns.probes
    return {
        "status": feed.status,
        "probes": len(probes),
        "turns": {probe.start: probe.turn for probe in probes},
        "ended": bool(probes) and all(probe.ended for probe in probes),
        "now": feed.now if probes and feed.image.counters["messages"] else None,
    }


def _get(request: Request, feed: Feed) -> dict[str, Any]:
    found = _find(request.keys[0], request.at, feed)
    if found is None:
        raise RefusedError(DATA_NOT_FOUND, "requested data was not found")
    return found


def _get_many(request: Request, feed: Feed) -> list[dict[str, Any] | None]:
    found: dict[str, dict[str, Any] | None] = {}
    budget = _MAX_NODES
    for key in request.keys:
        if key not in found:
            answer = found[key] = _find(key, request.at, feed, budget)
            budget -= len(answer["dns_queries"]) + len(answer["ip_addresses"]) if answer else 0
    return [found[key] for key in request.keys]


def _find(key: str, at: float | None, feed: Feed, budget: int = _MAX_NODES) -> dict[str, Any] | None:
    found: LookupResult | None = feed.image.get(key, now=feed.now, at=at, nodes=max(budget, 1))
    feed.counters["misses" if found is None else "hits"] += 1
    if found is None:
        return None
    return {**found.fields, "history": _is_remembered(found.exact, at, feed)}


def _trail(request: Request, feed: Feed) -> dict[str, Any]:
    found = feed.image.trails(request.keys[0], request.connection, now=feed.now, at=request.at)
    if found is None:
        raise RefusedError(DATA_NOT_FOUND, "requested data was not found")
    data: dict[str, Any] = msgspec.to_builtins(found)
    data["history"] = _is_remembered(data.pop("exact"), request.at, feed)
    return data


def _is_remembered(exact: bool, at: float | None, feed: Feed) -> bool:
    """Whether an answer is all that was known at `at`."""
    return exact and (at is None or feed.image.remembers(at))


_ANSWERS: dict[str, Callable[[Request, Feed], Any]] = {
    "get": _get,
    "get_many": _get_many,
    "trail": _trail,
    "schema": lambda _request, _feed: SCHEMA,
    "keys": lambda _request, _feed: ["string"],
    "version": lambda _request, _feed: 1,
    "stats": lambda _request, feed: stats(feed),
    "health": lambda _request, feed: health(feed),
    "lost": lambda request, feed: feed.missed.note(request.worker, request.lost),
}
