"""Clients of other hosts: they belong to no user of this host, and receive no dump."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pytest

from dnstrail.protocol.lookups import Dump, Get, Join, Lost, RefusedError
from dnstrail_cache.worker import _of_client


@dataclass
class Served:
    """A request of a client."""

    remote: str = ""
    user: int | None = None


def test_a_dump_is_answered_on_this_host_alone():
    """A client of another host is refused a dump, and no other request."""
    with pytest.raises(RefusedError, match="on the host of the cache alone"):
        _of_client(Served(remote="central"), Dump())
    for remote, request in (("", Dump()), ("central", Get(key="a.example"))):
        assert _of_client(Served(remote=remote), request) is request


@pytest.mark.parametrize("request_of", [partial(Join, group="default"), partial(Lost, lost={})], ids=["join", "lost"])
def test_a_worker_belongs_to_a_user_or_to_a_key(request_of):
    """A worker has the user of its connection, whatever its request says; one of another host belongs to its key."""
    request = request_of(worker="w", user=0)
    assert [_of_client(served, request).user for served in (Served(user=7), Served(remote="central"))] == [7, "central"]
