"""Podman with a store of its own, in a network namespace with a DNS server."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dnstrail.kernel.cgroups import find_cgroup2
from live.docker_daemon import UPSTREAM, network_namespace
from live.namespaces import dnsmasq
from live.processes import run_dir
from live.run_commands import WITH_CGROUPS

PODMAN_TOOLS = ("podman", "crun", "gcc", "nsenter")
IMAGE = "localhost/dnstrail-resolve:1"
# No limit of processes: the controllers of the host can be those of cgroup v1.
_RUN = ("run", "--rm", "--pids-limit", "0", "--network", "host", "--cgroups", "enabled")


@dataclass(frozen=True)
class Podman:
    """Podman with its settings in a folder."""

    folder: Path
    namespace: str

    @property
    def conf(self) -> str:
        """The value of CONTAINERS_STORAGE_CONF."""
        return str(self.folder / "storage.conf")

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of Podman, with the cgroups of the host."""
        command = ["nsenter", f"--net=/run/netns/{self.namespace}", "unshare", "--mount", *WITH_CGROUPS]
        command += ["env", f"CONTAINERS_STORAGE_CONF={self.conf}", "podman", "--cgroup-manager", "cgroupfs"]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def resolve(self, container: str, name: str, *options: str) -> None:
        """Send one query in a new container, which ends when it has the response."""
        self(*_RUN, *options, "--name", container, IMAGE, "/resolve", UPSTREAM, "53", "udp", name)


@contextmanager
def podman() -> Iterator[Podman]:
    """Make a store with an image."""
    with network_namespace() as namespace, run_dir() as folder, dnsmasq(namespace, UPSTREAM, 53, "/test/192.0.2.1"):
        store = f'driver = "vfs"\ngraphroot = "{folder}/store"\nrunroot = "{folder}/run"\n'
        found = Podman(folder, namespace)
        Path(found.conf).write_text(f"[storage]\n{store}")
        found("import", str(image_of_resolve(folder)), IMAGE)
        try:
            yield found
        finally:
            for cgroup in ("libpod_parent/conmon", "libpod_parent"):
                with suppress(OSError):  # there is none, or others are in it
                    (Path(str(find_cgroup2())) / cgroup).rmdir()


def image_of_resolve(folder: Path) -> Path:
    """Return a tar file of a root that has the program `/resolve` alone."""
    root = folder / "root"
    root.mkdir()
    source = Path(__file__).with_name("resolve.c")
    subprocess.run(["gcc", "-static", "-O1", "-o", root / "resolve", source], check=True, capture_output=True)
    subprocess.run(["tar", "-C", root, "-cf", folder / "image.tar", "."], check=True)
    return folder / "image.tar"
