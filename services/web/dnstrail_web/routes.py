"""The table of routes: the address, the parameters and the reply of each, from which the OpenAPI document is made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from dnstrail.events import OUTCOMES
from dnstrail_web.parameters import Flag, Number, OneOf, ParameterKind, Seconds, Text, Time

Handler = Callable[[Request, dict[str, Any]], Awaitable[Response]]
LONGEST: Final = 1024  # bytes of a key
_CONNECTION: Final[Mapping[str, ParameterKind]] = {
    "process": Number(0, (1 << 32) - 1),
    "container": Text(256),
    "client": Text(256),
    "port": Number(0, (1 << 16) - 1),
    "source_port": Number(0, (1 << 16) - 1),
    "host": Text(256),
}
_KEY: Final[Mapping[str, ParameterKind]] = {"key": Text(LONGEST, required=True), "at": Time()}


class Route(NamedTuple):
    """One operation. `parameters` are those of the query, `inside` those of the address."""

    name: str  # of the handler
    method: str
    path: str
    summary: str
    reply: str  # the media type
    parameters: Mapping[str, ParameterKind] = {}
    inside: Mapping[str, ParameterKind] = {}
    body: Mapping[str, ParameterKind] = {}
    status: int = 200
    refusals: tuple[int, ...] = ()


LINES: Final = "application/x-ndjson"
_JSON, _EVENTS = "application/json", "text/event-stream"
ROUTES: Final = (
    Route("session", "GET", "/api/session", "The version, and what this server can answer.", _JSON),
    Route(
        "get",
        "GET",
        "/api/get",
        "The names and addresses that are related to a key, as `dnstrail get`.",
        _JSON,
        {**_KEY, **_CONNECTION},
        refusals=(404, 503),
    ),
    Route(
        "trail",
        "GET",
        "/api/trail",
        "How a name or an address was reached, as `dnstrail trail`.",
        _JSON,
        {**_KEY, **_CONNECTION, "limit": Number(1, 100)},
        refusals=(404, 503),
    ),
    Route(
        "connections",
        "GET",
        "/api/connections",
        "A page of the open connections, as `dnstrail connections`; `next` is the cursor of the next one.",
        _JSON,
        {
            "cursor": Text(40),
            "process": _CONNECTION["process"],
            "container": Text(256),
            "unit": Text(256),
            "host": Text(256),
            "rivals": Flag(),
        },
        refusals=(503,),
    ),
    Route(
        "fleet_get",
        "GET",
        "/api/fleet/get",
        "The hosts of the fleet that know a key, as `dnstrail fleet get`; `next` is the `before` of the next page.",
        _JSON,
        {**_KEY, "before": Time(), "host": Text(256)},
        refusals=(404, 503),
    ),
    Route(
        "fleet_hosts",
        "GET",
        "/api/fleet/hosts",
        "The hosts of the fleet: when they were heard, what waits, and what was lost, as `dnstrail fleet hosts`.",
        _JSON,
        refusals=(404, 503),
    ),
    Route(
        "seen",
        "GET",
        "/api/seen",
        "When a name or an address was seen, and by which programs, as `dnstrail seen`.",
        _JSON,
        {"key": Text(LONGEST, required=True), "since": Time(is_begin=True)},
        refusals=(503,),
    ),
    Route(
        "new",
        "GET",
        "/api/new",
        "The new domains, programs, resolvers and servers since a time (default: for a day), as `dnstrail new`.",
        _JSON,
        {"since": Time(is_begin=True)},
        refusals=(503,),
    ),
    Route(
        "log",
        "GET",
        "/api/log",
        "The questions of the history, or its connections, one on each line, as `dnstrail log --json`.",
        LINES,
        {
            "since": Time(is_begin=True),
            "until": Time(),
            "last": Number(1, 100_000),
            "name": Text(LONGEST),
            "process": Text(256),
            "container": Text(256),
            "unit": Text(256),
            "outcome": OneOf(OUTCOMES, repeated=True),
            "slower": Seconds(),
            "address": Text(64),
            "connections": Flag(),
            "domain": Flag(),
        },
        refusals=(503,),
    ),
    Route(
        "health",
        "GET",
        "/api/health",
        "Outcomes and latency by resolver and process over time, with the losses of each minute.",
        _JSON,
        {"since": Time(is_begin=True), "until": Time()},
        refusals=(503,),
    ),
    Route(
        "findings",
        "GET",
        "/api/findings",
        "The findings since this server runs, the newest last.",
        _JSON,
        {"last": Number(1, 1000)},
    ),
    Route("mutes", "GET", "/api/mutes", "The mutes of findings that have not expired.", _JSON),
    Route(
        "add_mute",
        "POST",
        "/api/mutes",
        "Mute the findings of an event, of a process, of a unit or with a value (of an argument), for some seconds.",
        _JSON,
        body={
            "event": Text(256, required=True),
            "value": Text(LONGEST),
            "argument": Text(256),
            "process": Text(256),
            "unit": Text(256),
            "seconds": Seconds(required=True),
            "note": Text(256),
        },
        status=201,
        refusals=(413, 503),
    ),
    Route(
        "remove_mute",
        "DELETE",
        "/api/mutes/{id}",
        "Remove a mute.",
        _JSON,
        inside={"id": Text(64, required=True)},
        refusals=(404, 503),
    ),
    Route(
        "events",
        "GET",
        "/api/events",
        "The live feed, as Server-Sent Events; it resumes after the id of `Last-Event-ID`, or of `after`.",
        _EVENTS,
        {"kinds": Text(64), "after": Text(64)},
        refusals=(503,),
    ),
    Route(
        "query",
        "GET",
        "/query/{key}",
        "The relations of a key as passive DNS in the common output format, one on each line.",
        LINES,
        inside={"key": Text(LONGEST, required=True)},
        refusals=(404, 503),
    ),
)
