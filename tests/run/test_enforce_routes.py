"""The sockets from which `--enforce` learns the routes to the resolvers."""

from __future__ import annotations

import os

from dnstrail.users import User
from dnstrail_run.cgroup import make_cgroup
from dnstrail_run.enforce.routes import Routes
from dnstrail_run.namespaces import own_namespace
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
