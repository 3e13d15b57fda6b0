"""A real Docker daemon in a network namespace of its own, with a DNS server for its containers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from live.getaddrinfo_program import build, make_root
from live.namespaces import dnsmasq
from live.processes import PATIENCE, run_dir, wait_until

WANTED = "DNSTRAIL_DOCKER"  # set by `make test-docker`: these tests start a daemon
IMAGE = "dnstrail-resolve"  # a static program that sends one query
LIBRARY_IMAGE = "dnstrail-getaddrinfo"  # a program with its C library
UPSTREAM = "10.99.1.1"  # on the loopback interface of the daemon's namespace
_WITHOUT_NETWORK = ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]


def docker_or_skip() -> None:
    """Skip unless these tests are requested; fail if something that they need is missing."""
    if not os.environ.get(WANTED):
        pytest.skip("make test-docker runs these")
    missing = [tool for tool in ("dockerd", "docker", "nsenter", "gcc", "debootstrap") if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        pytest.fail(f"missing: {', '.join(missing) or 'root'}; deploy/setup-docker.sh installs what there is")


@dataclass(frozen=True)
class Daemon:
    """A running daemon."""

    host: str  # the value of DOCKER_HOST

    def docker(self, *arguments: str, timeout: float = 60, **env: str) -> str:
        """Run a command of the client; return its output."""
        command = ["docker", "--host", self.host, *arguments]
        everything = {**os.environ, **env}
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=everything, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def resolve(self, name: str, *options: str, server: str, transport: str) -> str:
        """Send one query in a new container; return the container's id."""
        container = self.docker("create", *options, IMAGE, "/resolve", server, "53", transport, name)
        self.docker("start", "--attach", container)
        self.docker("rm", container)
        return container


@contextmanager
def docker_daemon() -> Iterator[Daemon]:
    """Run a daemon with two images."""
    with (
        network_namespace() as namespace,
        run_dir() as folder,
        dnsmasq(namespace, UPSTREAM, 53, "/test/192.0.2.1"),
        dockerd(folder / "data", namespace) as daemon,
    ):
        _import_images(daemon, folder)
        yield daemon


@contextmanager
def network_namespace() -> Iterator[str]:
    """Make a network namespace with the address of an upstream server."""
    namespace = f"dtd{os.getpid()}"
    _ip("netns", "add", namespace)
    try:
        _ip("-n", namespace, "link", "set", "lo", "up")
        _ip("-n", namespace, "addr", "add", f"{UPSTREAM}/32", "dev", "lo")
        yield namespace
    finally:
        subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)


@contextmanager
def dockerd(data: Path, namespace: str | None) -> Iterator[Daemon]:
    """Run a daemon in a network namespace; without one, it uses the network of this host, and changes nothing in it."""
    # nsenter keeps the cgroup mounts; `ip netns exec` hides them.
    command = ["nsenter", f"--net=/run/netns/{namespace}"] if namespace else []
    with run_dir() as folder:
        daemon = Daemon(f"unix://{folder}/docker.sock")
        command += ["dockerd", "--host", daemon.host, "--data-root", str(data)]
        command += ["--exec-root", str(folder / "exec"), "--pidfile", str(folder / "pid")]
        command += [] if namespace else _WITHOUT_NETWORK
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        ready = ["docker", "--host", daemon.host, "info"]
        try:
            wait_until(lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0, "dockerd")
            yield daemon
        finally:
            process.terminate()
            process.wait(PATIENCE)
            subprocess.run(["umount", data], capture_output=True, check=False)  # its own mount, which can stay behind


def _import_images(daemon: Daemon, folder: Path) -> None:
    static, linked = folder / "static", folder / "linked"
    for root in (static, linked):
        root.mkdir()
    source = Path(__file__).with_name("resolve.c")
    subprocess.run(["gcc", "-static", "-O1", "-o", static / "resolve", source], check=True, capture_output=True)
    make_root(linked, build("gcc", folder / "by-gcc"))
    for root, image in ((static, IMAGE), (linked, LIBRARY_IMAGE)):
        subprocess.run(["tar", "-C", root, "-cf", folder / "image.tar", "."], check=True)
        daemon.docker("import", str(folder / "image.tar"), image)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
