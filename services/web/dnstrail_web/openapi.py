"""The OpenAPI document and its page, both made from the table of routes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Final

from dnstrail import __version__
from dnstrail_web.errors import JSON
from dnstrail_web.parameters import ParameterKind
from dnstrail_web.routes import Route

_ERROR: Final = {"$ref": "#/components/schemas/Error"}
_ALWAYS: Final = (400, 401, 421)
_CHANGES: Final = (403,)
_OBJECT: Final = {"type": "object", "required": ["ok", "data"], "properties": {"ok": {"const": True}, "data": {}}}


def openapi_document(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the document (OpenAPI 3.1)."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    error = {
        "type": "object",
        "required": ["ok", "error", "message"],
        "properties": {"ok": {"const": False}, "error": {"type": "string"}, "message": {"type": "string"}},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "dnstrail", "version": __version__, "description": "docs/use/page.md"},
        "paths": paths,
        "components": {
            "schemas": {"Error": error},
            "securitySchemes": {"cookie": {"type": "apiKey", "in": "cookie", "name": "dnstrail-PORT"}},
        },
        "security": [{"cookie": []}],
    }


def _operation(route: Route) -> dict[str, Any]:
    schema: dict[str, Any] = dict(_OBJECT) if route.reply == JSON else {"type": "string"}
    answers: dict[str, Any] = {
        str(route.status): {"description": route.summary, "content": {route.reply: {"schema": schema}}}
    }
    refused = (*_ALWAYS, *(_CHANGES if route.method != "GET" else ()), *route.refusals)
    for status in sorted({*refused}):
        answers[str(status)] = {"description": "refused", "content": {JSON: {"schema": _ERROR}}}
    of_query = [_parameter(name, kind, "query") for name, kind in route.parameters.items()]
    inside = [_parameter(name, kind, "path") for name, kind in route.inside.items()]
    found: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "parameters": [*inside, *of_query],
        "responses": answers,
    }
    if route.body:
        found["requestBody"] = {"required": True, "content": {JSON: {"schema": _body(route.body)}}}
    return found


def _parameter(name: str, kind: ParameterKind, place: str) -> dict[str, Any]:
    schema = {"type": "array", "items": kind.schema()} if kind.repeated else kind.schema()
    return {"name": name, "in": place, "required": kind.required, "schema": schema}


def _body(kinds: Mapping[str, ParameterKind]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": [name for name, kind in kinds.items() if kind.required],
        "properties": {name: kind.schema() for name, kind in kinds.items()},
        "additionalProperties": False,
    }


def api_page(routes: Iterable[Route]) -> str:
    """Return the page of the API."""
    rows = [
        f"<tr><td><code>{route.method} {escape(route.path)}</code><td>{escape(route.summary)}"
        f"<td>{', '.join(f'<code>{name}</code>' for name in (*route.parameters, *route.body))}"
        for route in routes
    ]
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>dnstrail: the API</title><h1>The API</h1>"
        '<p>As a document: <a href="/api/openapi.json">openapi.json</a>.'
        f"<table><tr><th>request<th>reply<th>parameters{''.join(rows)}</table>"
    )
