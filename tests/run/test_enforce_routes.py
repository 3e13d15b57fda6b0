"""The sockets from which `--enforce` learns the routes to the resolvers."""

from __future__ import annotations

import os
import select
import subprocess
from pathlib import Path

import msgspec
import pytest

from dnstrail.errors import SourceUnavailable
from dnstrail.users import User
from dnstrail_run.cgroup import make_cgroup
from dnstrail_run.enforce.routes import Routes
from dnstrail_run.namespaces import named_namespaces, own_namespace
from live.namespaces import live_or_skip

USER = User(60_706, 60_706)


def test_the_sockets_are_of_the_user_and_no_command_inherits_them():
    """The sockets belong to the user of the command, whose routes they follow, and end with the launcher."""
    live_or_skip()
    cgroup = make_cgroup()
    marked: list[int] = []
    try:
        routes = Routes(cgroup, USER, own_namespace(), marked.append)
        assert marked
        assert {os.fstat(each).st_uid for each in marked} == {USER.uid}
        assert not any(os.get_inheritable(each) for each in (*marked, routes.fileno()))
        assert cgroup.processes() == []
        routes.close()
    finally:
        cgroup.remove()


def test_a_namespace_that_took_the_place_of_another_is_left_alone():
    """The rules know the resolvers of a namespace by its cookie: under the path of one that is gone nothing is sent."""
    live_or_skip()
    cgroup, own = make_cgroup(), own_namespace()
    try:
        with pytest.raises(SourceUnavailable):
            Routes(cgroup, USER, msgspec.structs.replace(own, cookie=own.cookie + 1), pytest.fail)
        assert cgroup.processes() == []
    finally:
        cgroup.remove()


def test_more_changes_than_the_kernel_keeps_are_forgotten(network):
    """The containers of a service that starts change hundreds of routes: the launcher goes on, and sees the next."""
    [client] = [one for one in named_namespaces() if Path(one.path).name == network.client]
    batch = "".join(f"route add 10.50.{number // 250}.{number % 250} dev lo\n" for number in range(2_000))
    cgroup = make_cgroup()
    try:
        routes = Routes(cgroup, USER, client, lambda _: None)
        for changes in (batch, batch.replace("add", "del")):
            subprocess.run(["ip", "-n", network.client, "-batch", "-"], input=changes, text=True, check=True)
            assert select.select([routes], [], [], 0)[0]
            routes.learn()
            assert not select.select([routes], [], [], 0)[0]
        routes.close()
    finally:
        cgroup.remove()
