"""Results of TCP connections on the real kernel."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

import communityid
import pytest
from msgspec.structs import replace

from dnstrail.captured import Captured
from dnstrail.events import NET_TCP_CLOSE, NET_TCP_CONNECT, NET_TCP_CONNECT_RESULT
from dnstrail_probe.ebpf import loader
from live.ebpf_source import Watching, watching
from live.namespaces import CLIENT, SERVER, SERVER6, Hosts, dnsmasq, hosts, live_or_skip, skip
from live.processes import PATIENCE, wait_until

OPEN, CLOSED = 53, 81
SERVERS = {"v4": SERVER, "v6": SERVER6, "mapped": f"::ffff:{SERVER}"}
TARGETS = pytest.mark.parametrize("target", SERVERS)
# Connects once, blocking or not, and prints the error.
CONNECT = """
import select, socket, sys
address, port, how = sys.argv[1], int(sys.argv[2]), sys.argv[3]
sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
if how == "impatient":
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 100)
sock.setblocking(how in ("blocking", "impatient"))
error = sock.connect_ex((address, port))
if how == "non-blocking":
    select.select([], [sock], [])
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
print(error)
"""


@pytest.fixture(scope="module")
def network() -> Iterator[Hosts]:
    """Two hosts, with a server that listens on IPv4 and IPv6."""
    live_or_skip()
    with hosts() as both, dnsmasq(both.server, SERVER6):
        wait_until(lambda: connect(both, SERVER6, OPEN)[1] == 0, "the server")
        yield both


@pytest.fixture(scope="module")
def seen(network: Hosts) -> Iterator[Watching]:
    """Yield the probe."""
    with watching() as started:
        yield started


def connect(network: Hosts, address: str, port: int, how: str = "blocking") -> tuple[int, int]:
    """Connect on the client; return the process and its error."""
    with network.start_on_client(sys.executable, "-c", CONNECT, address, str(port), how) as process:
        out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, out
    return process.pid, int(out)


def result(seen: Watching, pid: int) -> dict[str, Any]:
    """Return the only result of a process; it belongs to the only connection of the process, and follows it."""
    seen.until(lambda: seen.of(pid, NET_TCP_CONNECT_RESULT), "the result")
    [attempt], [found] = seen.of(pid, NET_TCP_CONNECT), seen.of(pid, NET_TCP_CONNECT_RESULT)
    assert found.process.path == os.path.realpath(sys.executable)
    assert (found.process, replace(found.flow, source=b"", source_port=0)) == (attempt.process, attempt.flow)
    assert found.timestamp > attempt.timestamp
    assert found.args == {**found.args, **attempt.args}
    return outcome(found)


def outcome(event: Captured) -> dict[str, Any]:
    """Return the arguments of a result without those that join it to its flow."""
    return {name: event.args[name] for name in ("dst", "dst_port", "connected", "error")}


def expected(address: str, port: int, error: str | None) -> dict[str, Any]:
    """Return the arguments of a result; `error` None stands for a connection that succeeded."""
    meant = address.removeprefix("::ffff:")
    return {"dst": meant, "dst_port": port, "connected": error is None, "error": error or ""}


@contextmanager
def rule(network: Hosts, address: str, *words: str) -> Iterator[None]:
    """Add a rule to the client's packet filter."""
    tool = "ip6tables" if ":" in address else "iptables"
    done = network.on_client(tool, "-w", *words[:2], "-A", *words[2:])
    if "does not exist" in done.stderr:
        skip(f"this kernel has no such {tool} table: {words[1]}")
    assert done.returncode == 0, done.stderr
    try:
        yield
    finally:
        network.on_client(tool, "-w", *words[:2], "-D", *words[2:])


@TARGETS
@pytest.mark.parametrize("how", ["blocking", "non-blocking"])
def test_a_connection_succeeds(network, seen, target, how):
    """A connection to an open port succeeds, for blocking and non-blocking sockets."""
    pid, error = connect(network, SERVERS[target], OPEN, how)
    assert error == 0
    assert result(seen, pid) == expected(SERVERS[target], OPEN, None)


@TARGETS
@pytest.mark.parametrize("how", ["blocking", "non-blocking"])
def test_a_connection_is_refused(network, seen, target, how):
    """A connection to a closed port fails with the error that the process gets."""
    pid, error = connect(network, SERVERS[target], CLOSED, how)
    assert os.strerror(error) == "Connection refused"
    assert result(seen, pid) == expected(SERVERS[target], CLOSED, "ECONNREFUSED")


def test_a_connection_without_reply_times_out(network, seen):
    """A connection without reply fails with a timeout."""
    with rule(network, SERVER, "-t", "filter", "INPUT", "-p", "tcp", "--sport", str(CLOSED), "-j", "DROP"):
        pid, error = connect(network, SERVER, CLOSED, "impatient")
    assert os.strerror(error) == "Connection timed out"
    assert result(seen, pid) == expected(SERVER, CLOSED, "ETIMEDOUT")


def test_a_connection_without_a_route_fails(network, seen):
    """A connection that the kernel refuses at once has failed, without an error."""
    pid, error = connect(network, "2001:db8::1", OPEN)
    assert os.strerror(error) == "Network is unreachable"
    assert result(seen, pid) == expected("2001:db8::1", OPEN, "")


def test_a_connection_is_given_up_by_its_process(network, seen):
    """A connection whose process ends first has failed, without an error."""
    with rule(network, SERVER, "-t", "filter", "INPUT", "-p", "tcp", "--sport", str(CLOSED), "-j", "DROP"):
        pid, error = connect(network, SERVER, CLOSED, "none")
    assert os.strerror(error) == "Operation now in progress"
    assert result(seen, pid) == expected(SERVER, CLOSED, "")


@pytest.mark.parametrize(("port", "error"), [(OPEN, None), (CLOSED, "ECONNREFUSED")])
@pytest.mark.parametrize(("meant", "real"), [("10.99.0.77", SERVER), ("fd99::77", SERVER6)], ids=["v4", "v6"])
def test_connection_behind_nat(network, seen, meant, real, port, error):
    """The result of a connection behind NAT has the destination that the process used."""
    to = f"[{real}]:{port}" if ":" in real else f"{real}:{port}"
    with rule(network, real, "-t", "nat", "OUTPUT", "-d", meant, "-p", "tcp", "-j", "DNAT", "--to", to):
        pid, _ = connect(network, meant, 443)
    assert result(seen, pid) == expected(meant, 443, error)


def test_second_connection_of_a_socket(network, seen):
    """A socket that connects twice has two results."""
    again = (
        "import socket, sys; sock = socket.socket(); address = sys.argv[1]\n"
        "assert sock.connect_ex((address, 81))\n"
        "assert not sock.connect_ex((address, 53))"
    )
    with network.start_on_client(sys.executable, "-c", again, SERVER) as process:
        assert process.wait(PATIENCE) == 0
    seen.until(lambda: len(seen.of(process.pid, NET_TCP_CONNECT_RESULT)) >= 2, "the results")
    found = [outcome(event) for event in seen.of(process.pid, NET_TCP_CONNECT_RESULT)]
    assert found == [expected(SERVER, CLOSED, "ECONNREFUSED"), expected(SERVER, OPEN, None)]


# Connects, and states its own end of the connection; closes it on request, or never.
STAYING = """
import socket, sys
sock = socket.create_connection((sys.argv[1], 53))
print(*sock.getsockname()[:2], flush=True)
sys.stdin.readline()
sock.close()
print("closed", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("end", ["close", "kill"])
@TARGETS
def test_a_connection_ends(network, seen, target, end):
    """An open connection has its source and its Community ID from the result on; its end is one event."""
    with network.start_on_client(sys.executable, "-c", STAYING, SERVERS[target]) as process:
        address, port = process.stdout.readline().split()
        seen.until(lambda: seen.of(process.pid, NET_TCP_CONNECT_RESULT), "the result")
        assert not seen.of(process.pid, NET_TCP_CLOSE)
        if end == "close":
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "closed\n"
        else:
            process.kill()
        seen.until(lambda: seen.of(process.pid, NET_TCP_CLOSE), "the end")
        process.kill()
    [result], [closed] = seen.of(process.pid, NET_TCP_CONNECT_RESULT), seen.of(process.pid, NET_TCP_CLOSE)
    source, to = (ip_address(text.removeprefix("::ffff:")).packed for text in (address, SERVERS[target]))
    assert (result.flow.source, result.flow.source_port) == (source, int(port))
    flow = communityid.FlowTuple.make_tcp(source, to, int(port), OPEN)
    assert result.args["community_id"] == communityid.CommunityID().calc(flow)
    assert (closed.flow.socket, closed.flow.source_port) == (result.flow.socket, int(port))
    assert closed.timestamp > result.timestamp


def test_accepted_connections_have_no_result(network, seen):
    """Only the connecting process has a result, not the accepting server."""
    pid, _ = connect(network, SERVER, OPEN)
    result(seen, pid)
    of_servers = [event for event in seen.named(NET_TCP_CONNECT_RESULT) if event.process.name == "dnsmasq"]
    assert [event for event in of_servers if event.args["dst"] in (CLIENT, SERVER)] == []


def test_without_btf(network, monkeypatch, tmp_path):
    """A kernel without BTF yields connections without results."""

    def none() -> None:
        raise FileNotFoundError

    monkeypatch.setattr(loader, "Btf", none)
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path))
    with watching() as seen:
        pid, _ = connect(network, SERVER, OPEN)
        seen.until(lambda: seen.of(pid, NET_TCP_CONNECT), "the connection")
        pid, _ = connect(network, SERVER, CLOSED)
        seen.until(lambda: seen.of(pid, NET_TCP_CONNECT), "the connection")
        assert not seen.named(NET_TCP_CONNECT_RESULT)
