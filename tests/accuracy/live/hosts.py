"""Hosts in network namespaces of their own: a server, and clients that are each joined to it by a veth pair.

On each host the files of the unpacked packages lie over /usr and /etc, so that programs run as if they were installed.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from internet import NETWORK, NETWORK6, SILENT6, UNREACHABLE6

UNPACKED = Path(__file__).parents[3] / ".clients"
_ROOT = UNPACKED / "root"
_SILENT_TRIES = "1"  # retries of a SYN without reply: a client without Happy Eyeballs gives up after three seconds
_FILES = """
set -e
mount -t tmpfs none "$1"
mkdir "$1/upper" "$1/work"
if [ -d "$2/usr" ]; then
    mount -t overlay none -o "lowerdir=$2/usr:/usr" /usr
    mount -t overlay none -o "lowerdir=$2/etc:/etc,upperdir=$1/upper,workdir=$1/work" /etc
else
    mount -t overlay none -o "lowerdir=/etc,upperdir=$1/upper,workdir=$1/work" /etc
fi
mount -t tmpfs -o mode=0755 none /run
mkdir -p /run/systemd/resolve /run/nscd
ip link set lo up
echo ready
exec cat
"""


@dataclass(frozen=True)
class Host:
    """A running host. `holder` is the process that keeps its namespaces."""

    number: int
    namespace: str
    holder: int
    mount_namespace: int

    @property
    def addresses(self) -> tuple[str, str]:
        """The IPv4 and the IPv6 address of a client."""
        return f"10.97.{self.number}.2", f"fd97::{self.number:x}:2"

    def command(self, *words: str | Path) -> list[str]:
        """Return the command that runs a command on this host; the process is the command itself."""
        within = ["nsenter", "--mount", "--net", f"--target={self.holder}", "--wdns=/tmp"]
        return [*within, *map(str, words)]

    def run(self, *words: str | Path, timeout: float = 20) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(self.command(*words), capture_output=True, text=True, timeout=timeout, check=False)

    def has(self, program: str) -> bool:
        """Return true if a program exists on this host."""
        return self.run("sh", "-c", 'command -v "$1"', "sh", program).returncode == 0

    def write(self, path: str, text: str) -> None:
        """Write a file of this host alone."""
        subprocess.run(
            self.command("sh", "-c", 'rm -f "$1"; mkdir -p "${1%/*}"; cat > "$1"', "sh", path),
            input=text,
            text=True,
            check=True,
        )


@contextmanager
def server(folder: Path) -> Iterator[Host]:
    """Run the host that has all addresses of the made-up internet."""
    with _host(folder, 0) as host:
        for family, network in (("-4", NETWORK), ("-6", NETWORK6)):
            _ip(host, family, "route", "add", "local", network, "dev", "lo")
        _ip(host, "-6", "route", "add", "unreachable", UNREACHABLE6)
        _ip(host, "-6", "route", "add", "blackhole", SILENT6)
        _set(host, "ipv6/conf/all/forwarding", "1")
        yield host


@contextmanager
def client_hosts(folder: Path, gateway: Host, count: int) -> Iterator[list[Host]]:
    """Run clients, numbered from 1; they trust the authority in the folder."""
    with ExitStack() as stack:
        yield [stack.enter_context(_client(folder, gateway, number)) for number in range(1, count + 1)]


@contextmanager
def _client(folder: Path, gateway: Host, number: int) -> Iterator[Host]:
    with _host(folder, number) as host:
        peer = f"c{number}"
        pair = ["type", "veth", "peer", "name", peer, "netns", gateway.namespace]
        subprocess.run(["ip", "link", "add", "eth0", "netns", host.namespace, *pair], check=True, capture_output=True)
        for one, link, last in ((gateway, peer, 1), (host, "eth0", 2)):
            _ip(one, "addr", "add", f"10.97.{number}.{last}/30", "dev", link)
            _ip(one, "-6", "addr", "add", f"fd97::{number:x}:{last}/112", "dev", link, "nodad")
            _ip(one, "link", "set", link, "up")
        _ip(host, "route", "add", "default", "via", f"10.97.{number}.1")
        _ip(host, "-6", "route", "add", "default", "via", f"fd97::{number:x}:1")
        _set(host, "ipv4/tcp_syn_retries", _SILENT_TRIES)
        host.write("/etc/ssl/certs/ca-certificates.crt", (folder / "ca.pem").read_text())
        yield host


@contextmanager
def _host(folder: Path, number: int) -> Iterator[Host]:
    namespace, files = f"dta{os.getpid()}-{number}", folder / f"host{number}"
    files.mkdir()
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    command = ["nsenter", f"--net=/run/netns/{namespace}", "unshare", "--mount", "sh", "-c", _FILES, "sh", files, _ROOT]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n", "a host did not start"
        yield Host(number, namespace, holder.pid, Path(f"/proc/{holder.pid}/ns/mnt").stat().st_ino)
    finally:
        holder.kill()
        holder.wait()
        subprocess.run(["ip", "netns", "del", namespace], check=False)


def _ip(host: Host, *arguments: str) -> None:
    subprocess.run(["ip", "-n", host.namespace, *arguments], check=True, capture_output=True)


def _set(host: Host, setting: str, value: str) -> None:
    subprocess.run(host.command("sh", "-c", 'echo "$1" > "$2"', "sh", value, f"/proc/sys/net/{setting}"), check=True)
