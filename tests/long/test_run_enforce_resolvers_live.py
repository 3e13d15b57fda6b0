"""`dnstrail run --enforce` with resolvers of many kinds: on this host, behind NAT, and behind a route that changes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from live import attempts
from live.enforced import RUN, enforced, watched
from live.listed_network import RESOLVER, ListedNetwork, listed_network
from live.namespaces import CLIENT, dnsmasq, live_or_skip
from live.processes import PATIENCE, run_dir, wait_until
from live.run_commands import within
from live.unbound import unbound_stub

STUB = "127.0.0.53"
EMBEDDED = "127.0.0.11"  # as Docker's
NOWHERE = "10.99.0.77"  # no host has it
PORT = 5353
_REACH = f"""
import os, socket, sys, time
sys.path.insert(0, {str(Path(attempts.__file__).parents[1])!r})
from pathlib import Path
from live.attempts import allowed_name, other_name, result
def reach(name):
    return result(lambda: socket.create_connection((name, 80), timeout=20).close())
"""
REACHES = f"{_REACH}print(reach(allowed_name(4, 0)), reach(other_name(4, 0)))"
# Reaches an allowed name, writes a file, and reaches another allowed name when the file is gone.
MOVES = f"""{_REACH}
Path("first.new").write_text(reach(allowed_name(4, 0)))
os.rename("first.new", "first")
while Path("first").exists():
    time.sleep(0.01)
while reach(allowed_name(4, 1)) != "ok":
    time.sleep(0.01)
Path("second").touch()
"""


@pytest.fixture(scope="module")
def network() -> Iterator[ListedNetwork]:
    """Yield a client with the list, and a server that has all addresses."""
    live_or_skip("unbound")
    with run_dir() as made:
        made.chmod(0o755)
        with listed_network(made, 3) as both, watched():
            yield both


@contextmanager
def translated(network: ListedNetwork, address: str, own: str) -> Iterator[None]:
    """Let packets of the client to port 53 of an address reach a resolver on its own host, by NAT."""
    rule = ["OUTPUT", "-d", address, "-p", "udp", "--dport", "53", "-j", "DNAT", "--to", f"{own}:{PORT}"]
    assert network.hosts.on_client("iptables", "-t", "nat", "-A", *rule).returncode == 0
    try:
        with dnsmasq(network.hosts.client, own, PORT, "/google.com/10.99.0.1", f"--server={RESOLVER}"):
            yield
    finally:
        network.hosts.on_client("iptables", "-t", "nat", "-D", *rule)


@pytest.mark.parametrize("kind", ["stub", "embedded", "redirected"])
def test_a_resolver_on_this_host(network, folder, kind):
    """A stub on loopback, and a resolver that NAT puts there, are believed: also one whose route leads elsewhere."""
    with ExitStack() as stack:
        if kind == "stub":
            stack.enter_context(unbound_stub(network.hosts, folder, STUB, RESOLVER))
        else:
            address, own = (EMBEDDED, EMBEDDED) if kind == "embedded" else (NOWHERE, "127.0.0.1")
            stack.enter_context(translated(network, address, own))
        address = {"stub": STUB, "embedded": EMBEDDED, "redirected": NOWHERE}[kind]
        network.ask(address)
        name = attempts.allowed_name(4, 0)
        wait_until(lambda: network.hosts.on_client("getent", "ahostsv4", name).returncode == 0, "the resolver")
        report, out = enforced(network, folder, sys.executable, "-c", REACHES)
    assert out.split() == ["ok", "EPERM"]
    assert (report["conflicts"], report["enforcement"]) == ([], [])


def test_the_route_to_a_resolver_changes(network, folder):
    """The answers of a resolver count when the route to it leads to another interface in the midst of a run."""
    network.ask(RESOLVER)
    (folder / "moves.py").write_text(MOVES)
    run = (*RUN, "--quiet", "--", sys.executable, "moves.py")
    with subprocess.Popen(within(network.hosts, *run), cwd=folder) as process:
        try:
            wait_until((folder / "first").exists, "the command", PATIENCE)
            assert (folder / "first").read_text() == "ok"
            _move(network)
            (folder / "first").unlink()
            wait_until((folder / "second").exists, "an answer on the new route", PATIENCE)
        finally:
            process.kill()


def _move(network: ListedNetwork) -> None:
    """Join client and server by a second pair of interfaces, and lead the packets of the resolver over it."""
    client, server = network.hosts.client, network.hosts.server
    steps = f"""
        link add eth1 netns {client} type veth peer name eth1 netns {server}
        -n {client} link set eth1 up
        -n {server} link set eth1 up
        netns exec {client} sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth1.rp_filter=0
        -n {server} route add {CLIENT}/32 dev eth1
        -n {client} route add {RESOLVER}/32 dev eth1 src {CLIENT}
    """
    for step in steps.strip().splitlines():
        subprocess.run(["ip", *step.split()], check=True, capture_output=True)
