"""Clients of other hosts: they belong to no user of this host, and receive no dump."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from dnstrail.protocol.lookups import Dump, Get, Join, RefusedError
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


def test_a_group_belongs_to_a_user_or_to_a_key():
    """Workers of another host are in no group of a user here: the group belongs to their key."""
    join = Join(group="default", worker="w")
    assert [_of_client(served, join).user for served in (Served(user=7), Served(remote="central"))] == [7, "central"]
