"""The answers to lookups of the fleet. Addresses that are private are those of one host, and never merged."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import singledispatch
from typing import Any, Final, NamedTuple

from dnstrail.protocol.facts import type_text
from dnstrail.protocol.lookups import (
    BAD_REQUEST,
    DATA_NOT_FOUND,
    OVERLOADED,
    RefusedRequestError,
    encode_data,
    encode_error,
)
from dnstrail_fleet.lookups.claims import ClaimStore
from dnstrail_fleet.lookups.contract import RowReader
from dnstrail_fleet.lookups.known_hosts import asker_of, known_hosts
from dnstrail_fleet.lookups.reading import FoundRow, FoundRows
from dnstrail_fleet.lookups.requests import (
    FleetAloneRequest,
    FleetClaimRequest,
    FleetFirstRequest,
    FleetGetRequest,
    FleetHostsRequest,
    FleetNewRequest,
    FleetRequest,
    FleetTopRequest,
    FleetTrailRequest,
    read_request,
)
from dnstrail_fleet.private_address import is_private
from dnstrail_fleet.row import DAY

SILENT: Final = 120.0  #: seconds after which a host that sends nothing is behind: a sender sends every 30 s
GONE: Final = 604_800.0  #: seconds after which a silent host counts as removed: no reply names it as behind
#: bytes of a reply of the store of the fleet -> `overloaded`
MOST_REPLY: Final = 8 << 20  # the bus closes a connection with 16 MiB
#: characters of a page of trails -> the others are left to the next page: `truncated`
MOST_TEXT: Final = 1 << 20
_LATE: Final = 2  # entries that may wait in the log
_SKEW: Final = 1_000  # ms: a smaller one may be the way to the engine


class _Lookup(NamedTuple):
    """What a lookup needs: the store, the present time (epoch seconds), and whether it took too long."""

    reader: RowReader
    now: float
    is_over: Callable[[], bool]
    claims: ClaimStore | None = None


def answer_lookup(
    body: bytes, reader: RowReader, now: float, is_over: Callable[[], bool], claims: ClaimStore | None = None
) -> bytes:
    """Return the reply to a request, which may be anything.

    Raises:
        sqlite3.Error, StoreUnavailableError: The store cannot be read.
    """
    lookup = _Lookup(reader, now, is_over, claims)
    behind = _behind(lookup)
    try:
        request = read_request(body)
        data = _answer(request, lookup)
    except RefusedRequestError as refused:
        return encode_error(refused, complete=not behind)
    is_exact = all(one.get("history", True) for one in data.get("hosts") or data.get("trails") or ())
    history = is_exact and _history(request, lookup)
    reply = encode_data({**data, "behind": behind}, complete=not behind, history=history)
    if len(reply) > MOST_REPLY:
        text = f"a reply of {len(reply)} bytes: ask for one host, or a lower limit"
        return encode_error(RefusedRequestError(OVERLOADED, text), complete=not behind)
    return reply


def _behind(lookup: _Lookup) -> list[str]:
    """Return the hosts of which something may be missing that they know already."""
    return lookup.reader.behind(_LATE, lookup.now - SILENT, lookup.now - GONE)


def _history(request: FleetRequest, lookup: _Lookup) -> bool:
    """Return whether the store knows everything about the time of a request."""
    if not isinstance(request, FleetGetRequest | FleetTrailRequest) or request.at is None:
        return True
    reader, host = lookup.reader, request.host
    return not reader.has_losses(host) and int(request.at) // DAY > reader.first_day(host)


@singledispatch
def _answer(request: FleetRequest, _lookup: _Lookup) -> dict[str, Any]:
    raise RefusedRequestError(BAD_REQUEST, f"no answer to {type(request).__name__}")


@_answer.register
def _get(request: FleetGetRequest, lookup: _Lookup) -> dict[str, Any]:
    rows, is_whole, following = _rows(request, lookup)
    hosts, all_relations = known_hosts(request, rows, lookup.reader, lookup.is_over, all_rows=is_whole)
    is_one = len(hosts) == 1
    shared = {text for host in hosts for text in host["ip_addresses"] if is_one or not is_private(text)}
    names = {name for host in hosts for name in host["dns_queries"]}
    return {
        "key": request.text,
        "ip_addresses": sorted(shared),
        "dns_queries": sorted(names) if is_one or not is_private(request.text) else [],
        "split_horizon": _differs(hosts),
        "hosts": hosts,
        "truncated": not (is_whole and all_relations),
        "next": following,
    }


def _differs(hosts: list[dict[str, Any]]) -> bool:
    """Return whether a host has private addresses for a name for which another host has others."""
    sets = [{*host["ip_addresses"]} for host in hosts if host["ip_addresses"]]
    return any(one != other and any(map(is_private, one)) for one in sets for other in sets)


@_answer.register
def _trail(request: FleetTrailRequest, lookup: _Lookup) -> dict[str, Any]:
    found = _rows(request, lookup)
    known: dict[tuple[Any, ...], FoundRow] = {}
    for row in found.rows:
        known.setdefault((row.host, row.asker, row.question, row.day), row)
    is_whole, following = found.is_whole, found.next
    asked, trails = [*known.values()], list[dict[str, Any]]()
    whole = size = 0  # trails of seconds that are shown to their end; characters
    for number, (row, (steps, all_steps, _)) in enumerate(zip(asked, lookup.reader.of_questions(asked), strict=True)):
        if number and row.last < asked[number - 1].last:
            whole = number
        if number and (size > MOST_TEXT or lookup.is_over()):
            is_known = whole and (found.is_whole or found.next is not None)
            following = asked[whole - 1].last if is_known else None
            trails, is_whole = trails[: whole or number], False
            break
        trails.append(path := _path(row, steps, request.text, request.at))
        size += sum(map(len, (row.question, *row.asker))) + sum(len(one) + len(to) for one, _, to in path["steps"])
        is_whole = is_whole and all_steps
    return {"key": request.text, "trails": trails, "truncated": not is_whole, "next": following}


def _path(row: FoundRow, steps: list[FoundRow], key: str, at: float | None) -> dict[str, Any]:
    """Return the trail of one host and asker: the steps from the question to the key, or all if the key was asked."""
    wanted, kept = {key}, list[FoundRow]()
    if at is not None:
        steps = [step for step in steps if step.is_live(at) is not False]
    if key == row.question:
        kept = steps
    else:
        left = steps
        while found := [step for step in left if step.target in wanted]:
            kept += found
            wanted |= {step.owner for step in found}
            left = [step for step in left if step not in found]
    kept = kept or [row]
    return {
        "host": row.host,
        "asker": asker_of(row),
        "question": row.question,
        "steps": [[step.owner, type_text(step.type), step.target] for step in reversed(kept)],
        "first": min(step.first for step in kept),
        "last": max(step.last for step in kept),
        "end": max(step.end for step in kept),
        "answers": max(step.answers for step in kept),
        "doubted": max(step.doubted for step in kept),
        **({} if at is None else {"history": all(step.is_live(at) for step in kept)}),
    }


@_answer.register
def _hosts(_request: FleetHostsRequest, lookup: _Lookup) -> dict[str, Any]:
    found = []
    for name, heard, skew, behind, dropped, waiting, trimmed, left_out, refused in lookup.reader.hosts():
        state = {"host": name, "heard": heard / 1000, "waiting": waiting, "behind": behind, "dropped": dropped}
        losses = {"trimmed": trimmed, "left_out": left_out, "refused": json.loads(refused)}
        found.append({**state, **losses, "skew": skew / 1000 if abs(skew) > _SKEW else 0.0})
    return {"hosts": found}


@_answer.register
def _new(request: FleetNewRequest, lookup: _Lookup) -> dict[str, Any]:
    found = lookup.reader.new(request.since, request.limit)
    return {"names": [{"name": name, "first": first, "host": host} for name, first, host in found]}


@_answer.register
def _top(request: FleetTopRequest, lookup: _Lookup) -> dict[str, Any]:
    found = lookup.reader.top(request.what, request.limit, lookup.now, lookup.is_over)
    fields = "name", "answers", "relations", "hosts", "host"
    rows = [dict(zip(fields, one, strict=True)) for one in found]
    return {"what": request.what, "top": [{key: value for key, value in row.items() if value} for row in rows]}


@_answer.register
def _first(request: FleetFirstRequest, lookup: _Lookup) -> dict[str, Any]:
    found = lookup.reader.first_hosts(request.name, request.limit)
    return {"hosts": [{"host": host, "first": first} for host, first in found], "since": _since(lookup)}


@_answer.register
def _alone(request: FleetAloneRequest, lookup: _Lookup) -> dict[str, Any]:
    host, first = lookup.reader.alone(request.name) or ("", 0)
    return {"host": host, "first": first, "since": _since(lookup)}


@_answer.register
def _claim(request: FleetClaimRequest, lookup: _Lookup) -> dict[str, Any]:
    if lookup.claims is None:
        raise RefusedRequestError(BAD_REQUEST, "nothing can be claimed here")
    is_first = lookup.claims.claim(request.signature, request.subject, request.event, lookup.now)
    return {"is_first": is_first, "since": _since(lookup)}


def _since(lookup: _Lookup) -> int:
    """Return the begin of the first day of the store, in seconds since the epoch."""
    return lookup.reader.first_day(None) * DAY


def _rows(request: FleetGetRequest | FleetTrailRequest, lookup: _Lookup) -> FoundRows:
    """Return the rows of a key.

    Raises:
        RefusedRequestError: There are none.
    """
    found = lookup.reader.touching(
        request.text, request.limit, host=request.host, at=request.at, before=request.before, is_over=lookup.is_over
    )
    if not found.rows:
        raise RefusedRequestError(DATA_NOT_FOUND, "requested data was not found", history=_history(request, lookup))
    return found
