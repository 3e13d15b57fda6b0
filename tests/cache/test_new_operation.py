"""A new operation is one Struct and one function: this file adds one, and asks a cache for it."""

from __future__ import annotations

import pytest

from dnstrail.protocol import lookups
from dnstrail.protocol.lookups import BAD_REQUEST, GetRequest, RefusedRequestError, Request, encode_request
from dnstrail_cache.lookups.answers import answer
from dnstrail_cache.state.cache_state import CacheState
from live.workers import FakeClock, asker, cache, probe, response, seen, short_folder

KNOWN = dict(lookups.OPERATIONS)


class CountNames(Request, frozen=True, kw_only=True):
    """The number of names in the image that end with a suffix."""

    suffix: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.suffix:
            raise RefusedRequestError(BAD_REQUEST, "count_names without a suffix")


@answer.register
def _count_names(request: CountNames, state: CacheState) -> int:
    return sum(name.endswith(request.suffix) for name in state.image.roots())


class Unanswered(Request, frozen=True):
    """An operation that has no function."""


ADDED = {name: operation for name, operation in lookups.OPERATIONS.items() if name not in KNOWN}
for name in ADDED:
    del lookups.OPERATIONS[name]  # other tests have the operations of the product


@pytest.fixture
def client(monkeypatch):
    """Yield a plain client of a cache that has the new operations, and applied two answers."""
    monkeypatch.setattr(lookups, "OPERATIONS", {**KNOWN, **ADDED})
    with (
        short_folder() as folder,
        cache(folder, clock=FakeClock()) as address,
        asker(address) as client,
        probe(folder) as publishing,
    ):
        answers = [seen(response(name, f"{name} 60 A 192.0.2.1")) for name in ("a.com", "b.com", "c.org")]
        client.mark = publishing.turn(*answers)
        yield client


def test_a_new_operation_is_one_struct_and_one_function(client):
    """The operation is named after its Struct, waits for its marks, and is answered by its function."""
    reply = client.ask("count_names", suffix=".com", after=[client.mark])
    assert reply == {"v": 1, "ok": True, "data": 2, "complete": True}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"suffix": ""}, "count_names without a suffix"),
        ({"suffix": 1}, "`$.suffix`"),
        ({}, "`suffix`"),
        ({"suffix": "x", "after": [["s", 1]] * 65}, "65 marks"),
    ],
    ids=["its own check", "a wrong type", "a missing field", "too many marks"],
)
def test_a_new_operation_has_checks_of_its_own(client, fields, text):
    """Its types, its own check and the checks of every request apply."""
    reply = client.ask("count_names", **fields)
    assert (reply["error"], text in reply["message"]) == ("bad_request", True)


def test_an_operation_without_its_function_is_refused(client):
    """A Struct alone is refused, and the cache answers the next request."""
    assert client.ask("unanswered")["error"] == "bad_request"
    assert client.ask("version")["data"] == 1


def test_unknown_fields_are_ignored():
    """A field that a later version of an operation adds does not disturb this one."""
    assert lookups.decode_request(encode_request("get", key="a.com", suffix=1)) == GetRequest(key="a.com")
