"""The handlers of the routes: each returns the reply to checked parameters."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from dnstrail import __version__
from dnstrail.process.clock import Clock
from dnstrail.protocol.lookups import BAD_REQUEST, DATA_NOT_FOUND
from dnstrail_web.errors import JSON, NO_FLEET, ApiError, json_response
from dnstrail_web.feed import KINDS, Feed
from dnstrail_web.health import Health
from dnstrail_web.lookups import PageLookups
from dnstrail_web.muting import Muting
from dnstrail_web.past import PastRecords
from dnstrail_web.past_health import PastHealth
from dnstrail_web.routes import LINES, Handler

_DAY: Final = 86_400.0
_HOUR: Final = 3600.0


class State(NamedTuple):
    """What the handlers answer from. `findings` are in tracee's shape; None: no findings are received, or no fleet."""

    lookups: PageLookups
    fleet: PageLookups | None
    past: PastRecords
    feed: Feed
    health: Health
    muting: Muting
    findings: deque[dict[str, Any]] | None
    clock: Clock
    host: str


class Api:
    """The handlers of the routes by their names."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._others = CapacityLimiter(2)
        self._past_health = PastHealth()

    def handler(self, name: str) -> Handler:
        """Return the handler of a route."""
        found: Handler = getattr(self, name)
        return found

    async def session(self, _request: Request, _asked: dict[str, Any]) -> Response:
        """State what this server can answer."""
        state = self._state
        can = {"history": state.past.is_kept, "mutes": state.muting.is_possible}
        can |= {"findings": state.findings is not None, "fleet": state.fleet is not None}
        return _data({"version": __version__, **can, "host": state.host, "now": state.clock.wall()})

    async def get(self, _request: Request, asked: dict[str, Any]) -> Response:
        """Ask the cache for a key."""
        return json_response(await self._state.lookups.ask("get", asked))

    async def trail(self, _request: Request, asked: dict[str, Any]) -> Response:
        """Ask the cache for the trails of a key."""
        return json_response(await self._state.lookups.ask("trail", asked))

    async def connections(self, _request: Request, asked: dict[str, Any]) -> Response:
        """Ask the cache for a page of the open connections."""
        return json_response(await self._state.lookups.ask("connections", asked))

    async def fleet_get(self, _request: Request, asked: dict[str, Any]) -> Response:
        """Ask the store of the fleet for a key."""
        return json_response(await self._fleet().ask("get", asked))

    async def fleet_hosts(self, _request: Request, asked: dict[str, Any]) -> Response:
        """Ask the store of the fleet for all hosts."""
        return json_response(await self._fleet().ask("hosts", asked))

    async def seen(self, _request: Request, asked: dict[str, Any]) -> Response:
        """Read when a key was seen."""
        found, is_whole = await self._state.past.seen(asked["key"], asked.get("since", 0.0))
        return _data(found, complete=is_whole)

    async def new(self, _request: Request, asked: dict[str, Any]) -> Response:
        """Read what is new."""
        line = await self._state.past.new(asked.get("since", self._state.clock.wall() - _DAY))
        return Response(line, media_type=JSON)

    async def log(self, _request: Request, asked: dict[str, Any]) -> Response:
        """Send the log."""
        return StreamingResponse(await self._state.past.log(asked), media_type=LINES)

    async def query(self, _request: Request, asked: dict[str, Any]) -> Response:
        """Send passive DNS."""
        lines = await self._state.past.passive_dns(asked["key"])
        if not lines:
            raise ApiError(DATA_NOT_FOUND, "requested data was not found")
        return Response("".join(f"{line}\n" for line in lines), media_type=LINES)

    async def health(self, _request: Request, asked: dict[str, Any]) -> Response:
        """Send outcomes and latency over time."""
        state, now = self._state, self._state.clock.wall()
        until = asked.get("until", now)
        since = asked.get("since", until - _HOUR)
        if since > until:
            raise ApiError(BAD_REQUEST, "since is after until")
        health, is_whole = state.health, True
        if since < health.begin and state.past.is_kept:
            health, is_whole = await state.past.read(
                lambda folder: self._past_health.read(folder, state.health, since, until, now)
            )
        buckets = await self._run(lambda: health.shown(since, until))
        shown = {"seconds": health.seconds, "now": now, "status": await self._status(), "buckets": buckets}
        return _data(shown, complete=is_whole)

    async def findings(self, _request: Request, asked: dict[str, Any]) -> Response:
        """Send the findings."""
        found = [*(self._state.findings or ())]
        return _data(found[-asked.get("last", len(found) or 1) :])

    async def mutes(self, _request: Request, _asked: dict[str, Any]) -> Response:
        """Send the mutes."""
        return _data(await self._run(self._state.muting.all))

    async def add_mute(self, _request: Request, asked: dict[str, Any]) -> Response:
        """Add a mute."""
        added = await self._run(lambda: self._state.muting.add(asked))
        return json_response({"ok": True, "data": added}, 201)

    async def remove_mute(self, _request: Request, asked: dict[str, Any]) -> Response:
        """Remove a mute."""
        await self._run(lambda: self._state.muting.remove(asked["id"]))
        return _data(None)

    async def events(self, request: Request, asked: dict[str, Any]) -> Response:
        """Begin a live feed."""
        kinds = asked.get("kinds", ",".join(KINDS)).split(",")
        if unknown := {*kinds} - {*KINDS}:
            raise ApiError(BAD_REQUEST, f"kinds: {min(unknown)!r:.40} is none of {', '.join(KINDS)}")
        last = request.headers.get("last-event-id", asked.get("after", ""))
        messages = self._state.feed.read(last, frozenset(kinds), self._state.clock.monotonic())
        return StreamingResponse(messages, media_type="text/event-stream")

    def _fleet(self) -> PageLookups:
        if self._state.fleet is None:
            raise ApiError(NO_FLEET, "this page asks no store of a fleet: see --store")
        return self._state.fleet

    async def _status(self) -> str:
        try:
            return str((await self._state.lookups.ask("health", {}))["data"]["status"])
        except (ApiError, LookupError, TypeError):
            return ""

    async def _run(self, do: Callable[[], Any]) -> Any:
        return await run_sync(do, limiter=self._others)


def _data(data: object, **fields: object) -> Response:
    return json_response({"ok": True, "data": data, **fields})
