"""`dnstrail run` with commands that let a Docker daemon start containers; others of this host may start meanwhile."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from live.docker_daemon import IMAGE, UPSTREAM, Daemon, docker_daemon, docker_or_skip
from live.namespaces import live_or_skip
from live.processes import run_dir
from live.run_commands import RUN

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """Yield a Docker daemon that only these tests use."""
    docker_or_skip()
    live_or_skip("gcc")
    with docker_daemon() as started:
        yield started


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield an empty folder."""
    with run_dir() as made:
        yield made


def report_of(daemon: Daemon, folder: Path, *command: str, options: tuple[str, ...] = ()) -> dict[str, Any]:
    """Run a command of Docker's client by `dnstrail run`; return the report."""
    run = (*RUN, "--report", "r.json", "--fail-on", "unnamed", *options, "--", "docker", *command)
    env = {**os.environ, "SUDO_UID": "", "DNSTRAIL_RUN_DIR": "/nowhere", "DOCKER_HOST": daemon.host}
    done = subprocess.run(run, cwd=folder, capture_output=True, text=True, timeout=120, env=env, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "r.json").read_text())


def test_a_container_that_the_daemon_starts_is_named(daemon, folder):
    """The container of `docker run` is in the report with its id, image, names and connections, and is not judged."""
    command = ("run", "--cidfile", "id", "--name", "asked", IMAGE, "/resolve", UPSTREAM, "53", "tcp", "in-run.test")
    report = report_of(daemon, folder, *command)
    assert (report["names"], report["connections"]) == ([], [])
    container = {one["id"]: one for one in report["containers"]}[(folder / "id").read_text()]
    assert (container["name"], container["image"]) in {("asked", IMAGE), ("", "")}  # Docker replies later
    assert [(one["name"], one["outcome"]) for one in container["names"]] == [("in-run.test", "answered")]
    [reached] = container["connections"]
    assert (reached["address"], reached["port"], reached["results"]) == (UPSTREAM, 53, {"connected": 1})
    assert reached["bytes_sent"] > len("in-run.test")


def test_a_step_of_a_build_is_named(daemon, folder):
    """Each step of `docker build` is in the report as a container with what it asked."""
    steps = [f'RUN ["/resolve", "{UPSTREAM}", "53", "udp", "step-{number}.test"]' for number in range(2)]
    (folder / "Dockerfile").write_text("\n".join([f"FROM {IMAGE}", *steps]))
    report = report_of(daemon, folder, "build", "--no-cache", "--network", "host", ".")
    assert (report["names"], report["connections"]) == ([], [])
    asked = {container["id"]: [one["name"] for one in container["names"]] for container in report["containers"]}
    built = {container: names for container, names in asked.items() if any("step-" in name for name in names)}
    assert [*built.values()] == [["step-0.test"], ["step-1.test"]]
    assert all(re.fullmatch("[0-9a-z]{25}", container) for container in built)


def test_enforce_hides_the_daemon(daemon, folder):
    """Under --enforce the client of Docker does not find the daemon, and the report names its socket."""
    (folder / "allowed").write_text("nothing.test\n")
    run = (
        *RUN,
        "--report",
        "r.json",
        "--allow",
        "allowed",
        "--enforce",
        "--",
        "docker",
        "run",
        "--rm",
        IMAGE,
        "/resolve",
    )
    env = {**os.environ, "SUDO_UID": "", "DNSTRAIL_RUN_DIR": "/nowhere", "DOCKER_HOST": daemon.host}
    done = subprocess.run(run, cwd=folder, capture_output=True, text=True, timeout=120, env=env, check=False)
    report = json.loads((folder / "r.json").read_text())
    assert done.returncode == 125, done.stderr
    assert IMAGE not in {one["image"] for one in report["containers"]}
    assert daemon.host.removeprefix("unix://") in report["hidden"]


def test_enforce_does_not_hold_for_a_container(daemon, folder):
    """What --enforce refuses to the command, a container can do that the daemon starts: the list has its socket."""
    (folder / "allowed").write_text(f"nothing.test\n{daemon.host.removeprefix('unix://')}\n")
    command = ("run", "--rm", IMAGE, "/resolve", UPSTREAM, "53", "tcp", "in-run.test")
    report = report_of(daemon, folder, *command, options=("--allow", "allowed", "--enforce"))
    assert report["refused"] == []
    names = [name for one in report["containers"] for name in one["names"]]
    assert [one["outcome"] for one in names if one["name"] == "in-run.test"] == ["answered"]
