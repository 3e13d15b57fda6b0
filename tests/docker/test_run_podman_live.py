"""`dnstrail run --enforce` with builds by Podman: the isolation of a step decides whether it holds."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from live.docker_daemon import docker_or_skip
from live.namespaces import SENDER, SERVER, Hosts, hosts, live_or_skip
from live.run_commands import RUN, WEB_SERVER, WITH_CGROUPS, asking_folder, on_client
from live.server_process import serving

pytestmark = pytest.mark.timeout(180)
USER = 61_999  # no other process of this host has it
# Gives this user an entry and further ids, in the mount namespace of the test alone.
WITH_USER = "mount --bind passwd /etc/passwd; for of in uid gid; do mount --bind ids /etc/sub$of; done"
WITH_USER = ("sh", "-ec", f'{WITH_USER}; exec "$@"', "sh")
DOCKERFILE = f"""
FROM scratch
ADD root.tar /
RUN echo step | nc step.google.com 80; echo step | nc {SENDER} 80 || echo exit $?
"""


@pytest.fixture(scope="module")
def network() -> Iterator[Hosts]:
    """Two hosts; every name below google.com has the address of the server."""
    docker_or_skip()
    live_or_skip("podman", "busybox", "newuidmap")
    with hosts() as both:
        yield both


@pytest.fixture
def folder(network) -> Iterator[Path]:
    """Yield a folder with a build, whose base is the static busybox of this host."""
    with asking_folder() as made, holders_ended(made), serving(network, made / "seen", *WEB_SERVER):
        (made / "root/bin").mkdir(parents=True)
        shutil.copy(str(shutil.which("busybox")), made / "root/bin/busybox")
        for name in ("sh", "nc"):
            (made / "root/bin" / name).symlink_to("busybox")
        (made / "context").mkdir()
        subprocess.run(["tar", "-C", made / "root", "-cf", made / "context/root.tar", "."], check=True)
        (made / "context/Dockerfile").write_text(DOCKERFILE)
        (made / "allowed").write_text("step.google.com:80\n")
        yield made


@contextmanager
def holders_ended(folder: Path) -> Iterator[None]:
    """End the process by which Podman holds the user namespace of a user, at the end of the block."""
    yield
    for file in folder.rglob("pause.pid"):
        os.kill(int(file.read_text()), signal.SIGTERM)


def podman(folder: Path, isolation: str) -> list[str]:
    """Return the command line of a build that keeps everything in a folder, and needs no more than this process has."""
    limits = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    hard = {name: resource.getrlimit(of)[1] for name, of in limits.items()}
    storage = ("--root", f"{folder}/images", "--runroot", f"{folder}/run", "--storage-driver", "vfs")
    ulimits = [f"--ulimit={name}={most}:{most}" for name, most in hard.items() if most > 0]
    build = ("build", "--isolation", isolation, "--network", "host", *ulimits, "context")
    return ["podman", "--cgroup-manager", "cgroupfs", *storage, *build]


@pytest.mark.parametrize(("isolation", "holds"), [("chroot", True), ("oci", False)])
@pytest.mark.parametrize("options", [(), ("--allow-new-privileges",)])
def test_the_isolation_of_a_step_decides(network, folder, isolation, holds, options):
    """A step in a chroot is in the cgroup of the command; a step with a cgroup of its own is reported, not refused."""
    run = (*RUN, "--allow", "allowed", "--enforce", "--report", "r.json", *options, "--", *podman(folder, isolation))
    done = on_client(network, folder, *WITH_CGROUPS, *run)
    assert done.returncode == 10, done.stdout + done.stderr
    report = json.loads((folder / "r.json").read_text())
    assert (report["exit_code"], report["coverage"]["complete"]) == (0, True), done.stdout + done.stderr
    assert [one["name"] for one in report["names"]] == ["step.google.com"]
    reached = {(one["name"], one["address"]): one["program"]["name"] for one in report["connections"]}
    expected = {("step.google.com", SERVER): "nc"} | ({} if holds else {("", SENDER): "nc"})
    assert reached == expected
    assert [one["address"] for one in report["refused"]] == ([SENDER] if holds else [])
    assert bool(report["enforcement"]) is not holds


def test_a_user_maps_users_by_set_id_programs(network, folder):
    """A build of a user needs --allow-new-privileges, which is named; then a step is in the cgroup of the command."""
    caller = {"SUDO_UID": str(USER), "SUDO_GID": str(USER), "SUDO_USER": "builder", "XDG_RUNTIME_DIR": str(folder)}
    (folder / "passwd").write_text(f"{Path('/etc/passwd').read_text()}builder:x:{USER}:{USER}::{folder}:/bin/sh\n")
    (folder / "ids").write_text("builder:300000:65536\n")
    subprocess.run(["chown", "-R", f"{USER}:{USER}", folder], check=True)
    run = (*WITH_USER, *RUN, "--allow", "allowed", "--enforce", "--report", "r.json")
    done = on_client(network, folder, *run, "--", *podman(folder, "chroot"), **caller)
    assert done.returncode not in (0, 10), done.stdout + done.stderr
    (weakened,) = json.loads((folder / "r.json").read_text())["rights"]
    assert re.search(r"/new[ug]idmap ran without the rights", weakened)
    assert f"dnstrail: {weakened}\n" in done.stderr
    done = on_client(network, folder, *run, "--allow-new-privileges", "--", *podman(folder, "chroot"), **caller)
    report = json.loads((folder / "r.json").read_text())
    assert (done.returncode, report["exit_code"]) == (10, 0), done.stdout + done.stderr
    assert re.search(r"/new[ug]idmap ran with the rights", *report["rights"])
    assert {(one["name"], one["address"]) for one in report["connections"]} == {("step.google.com", SERVER)}
    assert [one["address"] for one in report["refused"]] == [SENDER]
