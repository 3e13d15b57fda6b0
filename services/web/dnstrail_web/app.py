"""The application: what it lets through, its pages, and its routes. Each error is a reply in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

import msgspec
import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dnstrail.protocol.lookups import BAD_REQUEST
from dnstrail_web.access import Access, Peer
from dnstrail_web.api import Api
from dnstrail_web.errors import (
    FORBIDDEN,
    INTERNAL,
    JSON,
    NOT_FOUND,
    TOO_LARGE,
    UNAUTHORIZED,
    WRONG_HOST,
    WRONG_METHOD,
    ApiError,
    json_response,
)
from dnstrail_web.openapi import api_page, openapi_document
from dnstrail_web.parameters import read_parameters
from dnstrail_web.routes import ROUTES, Route

#: bytes of the body of a request -> `too_large`, and the connection is closed
MOST_BODY: Final = 16 << 10
VIEWS: Final = ("/", "/now", "/trail", "/new", "/findings", "/health", "/hosts")  # addresses of the page
_TYPES: Final[Mapping[str, str]] = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
    ".json": JSON,
    ".txt": "text/plain; charset=utf-8",
}
_HEADERS: Final = (
    (
        b"content-security-policy",
        b"default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_NO_LINK: Final = (
    "<!doctype html><html lang=en><title>dnstrail</title><p>This link is invalid, or was used before. "
    "<code>dnstrail open</code> prints a new one."
)


class StaticFile(msgspec.Struct, frozen=True):
    """A file of the page, as it was at the start."""

    content: bytes
    media_type: str
    etag: str


class Application:
    """The application. `hosts` are the values of the Host header that mean it, `origins` its own origins."""

    def __init__(self, api: Api, access: Access, hosts: frozenset[str], scheme: str, static: Path) -> None:
        self._api = api
        self._access = access
        self._hosts = hosts
        self._origins = frozenset(f"{scheme}://{host}" for host in hosts)
        self._files = read_files(static)
        self._document = openapi_document(ROUTES)
        self._page = api_page(ROUTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request (ASGI)."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        answer: ASGIApp
        try:
            answer = await self._answer(request)
        except ApiError as error:
            answer = error.response()
            if error.code in (TOO_LARGE, WRONG_HOST, BAD_REQUEST):
                answer.headers["connection"] = "close"  # its body may be long
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001 - a fault of ours in one reply
            structlog.get_logger().error("request_failed", path=scope["path"], error=repr(error))
            answer = ApiError(INTERNAL, "a fault of dnstrail: see its log").response()
        with suppress(ClientDisconnect):
            await self._send(answer, scope, receive, send)

    async def _send(self, answer: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Send a reply with the headers of all replies; a fault after its begin ends the connection."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                cached = any(name == b"cache-control" for name, _ in message["headers"])
                more = [] if cached else [(b"cache-control", b"no-store")]
                message = {**message, "headers": [*message["headers"], *_HEADERS, *more]}
            await send(message)

        try:
            await answer(scope, receive, with_headers)
        except ApiError as error:  # of a stream that has begun
            structlog.get_logger().warning("reply_cut_short", path=scope["path"], error=str(error))

    async def _answer(self, request: Request) -> Response:
        """Return the reply.

        Raises:
            ApiError: the request is refused.
        """
        headers = Headers(scope=request.scope)
        if headers.getlist("host") != [headers.get("host", "")] or headers["host"].lower() not in self._hosts:
            raise ApiError(WRONG_HOST, "the Host header names another server")
        _check_body(headers)
        path, peer = request.scope["path"], request.scope["state"]["peer"]
        if not (path.startswith(("/api", "/query/"))):
            return self._page_of(request, path, peer)
        if not self._access.admits("; ".join(headers.getlist("cookie")), peer):
            raise ApiError(UNAUTHORIZED, "use the link that `dnstrail open` prints")
        if request.method not in ("GET", "HEAD"):
            self._check_origin(headers)
        return await self._of_api(request, path)

    def _page_of(self, request: Request, path: str, peer: Peer) -> Response:
        if request.method not in ("GET", "HEAD"):
            raise ApiError(WRONG_METHOD, "GET is expected")
        if path in VIEWS:
            try:
                query = parse_qsl(request.scope["query_string"].decode(), keep_blank_values=True, max_num_fields=32)
            except ValueError as error:
                raise ApiError(BAD_REQUEST, "the query cannot be read") from error
            tokens = [value for name, value in query if name == "token"]
            if tokens:
                return self._let_in(path, tokens, [one for one in query if one[0] != "token"], peer)
            path = "/static/index.html"
        found = self._files.get(path.removeprefix("/static/")) if path.startswith("/static/") else None
        if found is None:
            raise ApiError(NOT_FOUND, "there is no such page")
        same = request.headers.get("if-none-match") == found.etag
        headers = {"etag": found.etag, "cache-control": "no-cache"}
        return Response(b"" if same else found.content, 304 if same else 200, headers, found.media_type)

    def _let_in(self, path: str, tokens: list[str], query: list[tuple[str, str]], peer: Peer) -> Response:
        """Exchange a token for a cookie, and lead to the address without it."""
        try:
            cookie = self._access.exchange(tokens[0], peer) if len(tokens) == 1 else None
        except OSError as error:
            structlog.get_logger().error("link_unwritable", error=str(error))
            raise ApiError(INTERNAL, "the file of the link cannot be written") from error
        if cookie is None:
            return HTMLResponse(_NO_LINK, 401)
        reply = RedirectResponse(f"{path}?{urlencode(query)}" if query else path, 303)
        reply.headers["set-cookie"] = cookie
        return reply

    def _check_origin(self, headers: Headers) -> None:
        """Refuse what another site's page sends (CSRF).

        Raises:
            ApiError: the request is not one of this page, or of a program.
        """
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site not in (None, "same-origin") or (origin is not None and origin.lower() not in self._origins):
            raise ApiError(FORBIDDEN, "another site sent this")

    async def _of_api(self, request: Request, path: str) -> Response:
        if path in ("/api", "/api/") and request.method in ("GET", "HEAD"):
            return HTMLResponse(self._page)
        if path == "/api/openapi.json" and request.method in ("GET", "HEAD"):
            return json_response(self._document)
        route, inside = _route_of(request.method, path)
        given = [*request.query_params.multi_items()]
        asked = read_parameters(given, route.parameters) | read_parameters(inside, route.inside)
        if route.body:
            asked |= read_parameters(await _body_of(request), route.body)
        return await self._api.handler(route.name)(request, asked)


def _check_body(headers: Headers) -> None:
    """Refuse a body that is too long, or whose length is unknown, before any of it is read."""
    length = headers.get("content-length", "0")
    if "transfer-encoding" in headers or not (length.isascii() and length.isdigit()) or int(length) > MOST_BODY:
        raise ApiError(TOO_LARGE, f"a body of {MOST_BODY} bytes is the most, and its length has to be stated")


async def _body_of(request: Request) -> list[tuple[str, str]]:
    """Return the values of a body by their names, as text.

    Raises:
        ApiError: it is no JSON object of texts and numbers.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise ApiError(BAD_REQUEST, f"the content type {JSON} is expected")
    try:
        found = msgspec.json.decode(await request.body(), type=dict[str, str | int | float])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ApiError(BAD_REQUEST, "a JSON object of texts and numbers is expected") from error
    return [(name, value if isinstance(value, str) else repr(value)) for name, value in found.items() if value != ""]


def _route_of(method: str, path: str) -> tuple[Route, list[tuple[str, str]]]:
    """Return the route of a request, and the parameters in its address.

    Raises:
        ApiError: there is none.
    """
    found: list[tuple[Route, list[tuple[str, str]]]] = []
    for route in ROUTES:
        before, brace, name = route.path.partition("{")
        if path == route.path and not brace:
            found.append((route, []))
        elif brace and path.startswith(before) and path != before:
            found.append((route, [(name.rstrip("}"), path.removeprefix(before))]))
    if not found:
        raise ApiError(NOT_FOUND, "there is no such route: see /api")
    for route, inside in found:
        if method in (route.method, "HEAD" if route.method == "GET" else ""):
            return route, inside
    raise ApiError(WRONG_METHOD, f"{', '.join(route.method for route, _ in found)} is expected")


def read_files(folder: Path) -> dict[str, StaticFile]:
    """Return the files of the page by their paths: nothing is read from the disk for a request."""
    files: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        kind = _TYPES.get(path.suffix)
        if kind is not None and path.is_file():
            content = path.read_bytes()
            name = path.relative_to(folder).as_posix()
            files[name] = StaticFile(content, kind, f'"{blake2b(content, digest_size=16).hexdigest()}"')
    return files
