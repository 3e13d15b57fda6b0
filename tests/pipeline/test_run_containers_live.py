"""`dnstrail run` and the containers that a service starts meanwhile, on the real kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from live.ebpf_source import cgroup, inside
from live.namespaces import SERVER
from live.pipelines import Run, pipeline
from live.processes import wait_until
from live.run_commands import RUN, WEB_SERVER, WITH_CGROUPS, asking_folder, on_client, within
from live.server_process import serving

SLICE = f"dnstrail{os.getpid()}-run.slice"
OLDER, NEWER = os.urandom(32).hex(), os.urandom(32).hex()
# Runs in a container itself. For each line it connects to a name there, and to another one in a new container.
SERVICE = f"""
exec 3<>ask
while read -r line <&3; do
    {sys.executable} asks.py older.google.com
    scope=/sys/fs/cgroup/{SLICE}/docker-{NEWER}.scope
    mkdir $scope
    sh -c 'echo $$ > $0/cgroup.procs; exec {sys.executable} asks.py newer.google.com' $scope
    rmdir $scope
    echo done > answers
done
"""
COMMAND = f"{sys.executable} asks.py own.google.com; echo start > ask; read -r answer < answers"


@pytest.fixture(scope="module")
def watched(network) -> Iterator[Run]:
    """Yield a pipeline that runs already."""
    with pipeline("--output", "json") as running:
        yield running


@pytest.fixture
def folder(network, watched) -> Iterator[Path]:
    """Yield the folder of the command; the service, which listens there, is in a container that ran before."""
    with asking_folder() as made, cgroup(SLICE), cgroup(f"{SLICE}/docker-{OLDER}.scope") as scope:
        for fifo in ("ask", "answers"):
            os.mkfifo(made / fifo)
        service = subprocess.Popen(inside(scope, *within(network, *WITH_CGROUPS, "sh", "-c", SERVICE)), cwd=made)
        try:
            with serving(network, made / "seen", *WEB_SERVER):
                yield made
        finally:
            service.kill()
            service.wait()


@pytest.mark.parametrize(("options", "code"), [((), 0), (("--follow-containers",), 10)])
def test_a_container_that_starts_meanwhile_is_listed(network, folder, watched, options, code):
    """A container that a service starts is apart from the command, and judged only if that is wanted."""
    (folder / "allowed").write_text("own.google.com\n")
    run = (*RUN, "--allow", "allowed", *options, "--report", "r.json", "--", "sh", "-c", COMMAND)
    done = on_client(network, folder, *run, run_dir=watched.folder)
    report = json.loads((folder / "r.json").read_text())
    assert done.returncode == code, done.stderr
    assert [one["name"] for one in report["connections"]] == ["own.google.com"]
    assert [one["name"] for one in report["names"]] == ["own.google.com"]
    listed = {one["id"]: one for one in report["containers"]}  # others of this host may start meanwhile
    assert OLDER not in listed
    container = listed[NEWER]
    [reached] = container["connections"]
    wait_until(lambda: b"newer.google.com\n" in (folder / "seen").read_bytes(), "the line of the server")
    [accepted] = [line for line in (folder / "seen").read_text().splitlines() if "newer" in line]
    _, pid, name = accepted.split()
    assert [one["name"] for one in container["names"]] == [name]
    assert (reached["name"], reached["address"], reached["results"]) == (name, SERVER, {"connected": 1})
    assert (reached["program"]["pid"], reached["program"]["container"]) == (int(pid), NEWER)
    assert reached["bytes_sent"] == len(f"{pid} {name}")
    judged = [f"asked {name}", f"reached {name} ({SERVER}:80/tcp)"]
    assert [one for one in report["not_allowed"] if name in one] == (judged if code else [])
