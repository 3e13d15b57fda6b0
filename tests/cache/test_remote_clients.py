"""Clients of other hosts: they belong to no user of this host, and receive no dump."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial

import pytest

from dnstrail.protocol.lookups import DumpRequest, GetRequest, JoinRequest, LostRequest, RefusedRequestError
from dnstrail.users import UNUSED_IDS
from dnstrail_cache.worker import _of_client


@dataclass
class Served:
    """A request of a client."""

    remote: str = ""
    user: int | None = None


def test_a_dump_is_answered_on_this_host_alone():
    """A client of another host is refused a dump, and no other request."""
    with pytest.raises(RefusedRequestError, match="on the host of the cache alone"):
        _of_client(Served(remote="central"), DumpRequest())
    for remote, request in (("", DumpRequest()), ("central", GetRequest(key="a.example"))):
        assert _of_client(Served(remote=remote), request) is request


@pytest.mark.parametrize(
    "request_of", [partial(JoinRequest, group="default"), partial(LostRequest, lost={})], ids=["join", "lost"]
)
def test_a_worker_belongs_to_a_user_or_to_a_key(request_of):
    """A worker has the user of its connection, whatever its request says; one of another host belongs to its key."""
    request, own = request_of(worker="w", user=UNUSED_IDS[0]), os.geteuid()
    found = [_of_client(served, request).user for served in (Served(user=own), Served(remote="central"))]
    assert found == [own, "central"]


@pytest.mark.parametrize("user", [4321, None])
def test_a_stranger_joins_no_group(user):
    """A user who runs no worker, or whom the bus does not know, takes no actors from the workers."""
    with pytest.raises(RefusedRequestError, match="only root and the users of dnstrail may join"):
        _of_client(Served(user=user), JoinRequest(group="default", worker="w"))


def test_users_of_the_units_join():
    """Root, and the ids that only root can take on, belong to the service."""
    for user in (0, UNUSED_IDS[0]):
        assert _of_client(Served(user=user), JoinRequest(group="default", worker="w")).user == user
