"""Two hosts in network namespaces, with a real dnsmasq on one: all traffic of the live tests stays between them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import NoReturn

import pytest

from live.processes import PATIENCE, text_of, wait_until

CLIENT, SERVER, SENDER = "10.99.0.2", "10.99.0.1", "10.99.0.3"
CLIENT6, SERVER6 = "fd99::2", "fd99::1"
GOOGLE = "10.99.0.1"  # the address of google.com by this dnsmasq; it answers pings
REQUIRED = "DNSTRAIL_REQUIRE_LIVE"  # if set, a missing kernel feature is a failure and no reason to skip
_TOOLS = ("ip", "ping", "dnsmasq", "bpftool", "iptables", "setpriv")


def live_or_skip(*tools: str) -> None:
    """Skip if live tests or these tools cannot run; fail instead if they are required."""
    missing = [tool for tool in (*_TOOLS, *tools) if shutil.which(tool) is None]
    reason = ""
    if os.geteuid() != 0:
        reason = "live capture needs root"
    elif missing:
        reason = f"missing: {', '.join(missing)}"
    elif not Path("/usr/lib/python3/dist-packages/bcc/__init__.py").exists():
        reason = "bcc is not installed: apt-get install python3-bpfcc"
    elif not Path("/sys/kernel/btf/vmlinux").exists():
        reason = "this kernel has no BTF"
    if reason:
        skip(reason)


def skip(reason: str) -> NoReturn:
    """Skip a live test for something that this host lacks; fail if live tests are required."""
    if os.environ.get(REQUIRED):
        pytest.fail(reason)
    pytest.skip(reason)


@dataclass(frozen=True)
class Hosts:
    """The names of the two namespaces."""

    client: str
    server: str

    def start_on_client(self, *command: str) -> subprocess.Popen[str]:
        """Start a command on the client; the process is the command itself."""
        within = ["ip", "netns", "exec", self.client, *command]
        return subprocess.Popen(
            within, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def on_client(self, *command: str, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """Run a command on the client to its end."""
        return subprocess.run(
            ["ip", "netns", "exec", self.client, *command], capture_output=True, text=True, timeout=timeout, check=False
        )


@contextmanager
def hosts() -> Iterator[Hosts]:
    """Make a client and a server, joined by a veth pair; the client's resolver is the server's dnsmasq."""
    both = Hosts(f"dtc{os.getpid()}", f"dts{os.getpid()}")
    resolv = Path("/etc/netns") / both.client
    try:
        for name in (both.client, both.server):
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("link", "add", "eth0", "netns", both.client, "type", "veth", "peer", "name", "eth0", "netns", both.server)
        for name, address in ((both.client, CLIENT), (both.server, SERVER), (both.server, SENDER)):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
        for name, address in ((both.client, CLIENT6), (both.server, SERVER6)):
            _ip("-n", name, "addr", "add", f"{address}/64", "dev", "eth0", "nodad")
        resolv.mkdir(parents=True)
        (resolv / "resolv.conf").write_text(f"nameserver {SERVER}\n")
        with dnsmasq(both.server, SERVER):
            wait_until(lambda: both.on_client("getent", "hosts", "google.com").returncode == 0, "dnsmasq")
            yield both
    finally:
        shutil.rmtree(resolv, ignore_errors=True)
        for name in (both.client, both.server):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@contextmanager
def dnsmasq(
    namespace: str,
    address: str,
    port: int = 53,
    answer: str = f"/google.com/{GOOGLE}",
    *options: str,
    forks: bool = False,
) -> Iterator[None]:
    """Run a DNS server in a namespace until it listens; with `forks`, each TCP connection has a process of its own."""
    command = [
        "dnsmasq",
        "--keep-in-foreground" if forks else "--no-daemon",
        "--no-resolv",
        "--no-hosts",
        f"--address={answer}",
        "--bind-interfaces",
    ]
    command += [f"--listen-address={address}", f"--port={port}", "--conf-file=/dev/null", "--pid-file=", *options]
    process = subprocess.Popen(
        ["ip", "netns", "exec", namespace, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: process.poll() is not None or _listens(process.pid, address, port), f"dnsmasq at {address}")
        assert process.poll() is None, f"dnsmasq at {address} has ended"
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _listens(process: int, address: str, port: int) -> bool:
    """Return whether the network namespace of a process has a TCP server at an address: dnsmasq binds UDP before."""
    packed = ip_address(address).packed
    words = [packed[place : place + 4][::-1].hex().upper() for place in range(0, len(packed), 4)]
    tables = [text_of(Path(f"/proc/{process}/net/{table}")).splitlines() for table in ("tcp", "tcp6")]
    ends = [line.split()[1:4:2] for table in tables for line in table]
    return [f"{''.join(words)}:{port:04X}", "0A"] in ends


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
