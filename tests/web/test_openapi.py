"""The OpenAPI document is made from the table of routes."""

from __future__ import annotations

from dnstrail_web.api import Api
from dnstrail_web.openapi import api_page, openapi_document
from dnstrail_web.routes import ROUTES


def test_every_route_has_a_handler_and_a_place_in_the_document():
    """Each route is an operation of the document, and has a handler."""
    document = openapi_document(ROUTES)
    for route in ROUTES:
        assert callable(getattr(Api, route.name))
        operation = document["paths"][route.path][route.method.lower()]
        assert operation["operationId"] == route.name
        named = {parameter["name"] for parameter in operation["parameters"]}
        assert named == {*route.parameters, *route.inside}


def test_the_page_of_the_api_names_every_route():
    """The page of the API has a row for each route."""
    page = api_page(ROUTES)
    assert [route.path for route in ROUTES if route.path not in page] == []
