"""The rights of the containers of the compose file, and that they work together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from live.compose import composed
from live.docker_daemon import Daemon, docker_daemon, docker_or_skip
from live.namespaces import live_or_skip
from live.processes import wait_until
from live.rights import rights_of, show

pytestmark = pytest.mark.timeout(180)
USERS = {"cache": 990, "signatures": 991, "findings": 992}
KEPT = {"CAP_BPF", "CAP_SYS_PTRACE"}


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """Yield a Docker daemon that only this test uses."""
    docker_or_skip()
    live_or_skip("gcc")
    with docker_daemon() as started:
        yield started


def test_only_the_container_of_the_probe_has_rights(daemon: Daemon, tmp_path: Path) -> None:
    """The cache hears the probe, the others are not root, and no container can get further rights."""
    with composed(daemon, tmp_path) as containers:

        def heard() -> bool:
            python = json.loads(daemon.docker("inspect", "--format", "{{json .Config.Cmd}}", "cache"))[:3]
            shown = daemon.docker("exec", "cache", *python, "stats", "--json")
            return bool(json.loads(shown)["probes"])

        try:
            wait_until(heard, "a turn of the probe at the cache")
        except AssertionError:
            pytest.fail("\n".join(daemon.docker("logs", name) for name in containers))
        found = {name: rights_of(process) for name, process in containers.items()}
        show(found)
        for name, user in USERS.items():
            assert all(rights.none for rights in found[name])
            assert {uid for rights in found[name] for uid in rights.uids} == {user}
        assert {name for rights in found["probe"] for name in rights.capabilities} == KEPT
        assert all(rights.no_new_privileges and rights.groups == {990} for rights in found["probe"])
