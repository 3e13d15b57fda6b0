"""Tests of dnstrail_probe.ebpf.open_sockets."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path
from select import select

import pytest

from dnstrail.captured import ASKER_SEEN, FORWARDER, Captured
from dnstrail.captured import CLIENT as ASKS
from dnstrail.captured import SERVER as ANSWERS
from dnstrail.dns import is_response
from dnstrail.events import (
    NET_PACKET_DNS,
    NET_TCP_CONNECT,
    NET_UDP_CLOSE,
    NET_UDP_CONNECT,
    SCHED_PROCESS_EXEC,
    SCHED_PROCESS_EXIT,
    SCHED_PROCESS_FORK,
)
from dnstrail_probe.ebpf import loader, open_sockets
from dnstrail_probe.packets.connection_args import community_id
from live.clients import FORKED, STAYING, WAITING
from live.ebpf_source import Watching, cgroup, question_of, watching
from live.namespaces import SENDER, SERVER, SERVER6, Hosts, dnsmasq, hosts, live_or_skip, skip
from live.processes import PATIENCE, run_dir, text_of, wait_until

SERVERS = {"v4": SENDER, "v6": SERVER6}
VERSIONS = pytest.mark.parametrize("version", ["v4", "v6"])
TRANSPORTS = pytest.mark.parametrize("transport", ["udp", "tcp"])
HIDDEN = 5300  # where the server behind NAT listens
LARGE = 5399  # a port without a server
STUB = "127.0.0.11"  # the address of a resolver that NAT leads to
NEIGHBOUR = """
import socket, sys
kinds = (socket.SOCK_DGRAM, socket.SOCK_STREAM)
bound = [socket.socket(socket.AF_INET, kind) for kind in kinds]
for one in bound:
    one.bind(("127.0.0.2", int(sys.argv[1])))
print("bound", flush=True)
sys.stdin.readline()
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asks:
    asks.settimeout(60)
    asks.sendto(bytes.fromhex(sys.argv[3]), (sys.argv[2], 53))
    asks.recv(512)
"""
# Answers at port 53 of an address over UDP and TCP until its input ends. "::" serves IPv4, too, unless "only" follows.
ANSWERING = """
import select, socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
udp, tcp = (socket.socket(family, kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM))
for one in (udp, tcp):
    if family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, sys.argv[2:] == ["only"])
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind((sys.argv[1], 53))
tcp.listen()
print("bound", flush=True)
answer = lambda message: message[:2] + b"\\x81\\x80" + message[4:]
while True:
    ready = select.select([udp, tcp, sys.stdin], [], [])[0]
    if sys.stdin in ready:
        break
    if udp in ready:
        message, client = udp.recvfrom(600)
        udp.sendto(answer(message), client)
    if tcp in ready:
        with tcp.accept()[0] as accepted:
            accepted.settimeout(60)
            size = accepted.recv(2, socket.MSG_WAITALL)
            message = accepted.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)
            accepted.sendall(size + answer(message))
            accepted.recv(1)
"""
CONTAINER = os.urandom(32).hex()
ANSWER = "/test/192.0.2.1"


@pytest.fixture(scope="module")
def network() -> Iterator[Hosts]:
    """Two hosts, with DNS servers on IPv4 and IPv6, and two more on a port that only NAT leads to."""
    live_or_skip("dig", "getent", "gcc")
    with hosts() as both, ExitStack() as servers:
        for address, port in ((SERVER6, 53), (SERVER, HIDDEN), (SERVER6, HIDDEN)):
            servers.enter_context(dnsmasq(both.server, address, port, ANSWER))
        servers.enter_context(dnsmasq(both.server, SENDER, 53, ANSWER))
        for server in (SENDER, SERVER6):
            dig = ("dig", "+short", "+tries=1", "+time=1", f"@{server}", "ready.test")
            wait_until(lambda dig=dig: "192.0.2.1" in both.on_client(*dig).stdout, "the servers")
        yield both


@pytest.fixture(scope="module")
def static() -> Iterator[str]:
    """Yield a static program."""
    with run_dir() as folder:
        folder.chmod(0o755)
        program = folder / "resolve"
        source = Path(__file__).parents[1] / "support/live/resolve.c"
        subprocess.run(["gcc", "-static", "-O1", "-o", program, source], check=True, capture_output=True)
        yield str(program)


@pytest.fixture(scope="module")
def seen(network: Hosts) -> Iterator[Watching]:
    """Yield the probe, started after the servers."""
    with watching() as started:
        yield started


def ask(network: Hosts, *command: str) -> int:
    """Run a command on the client to its end; return its process."""
    with network.start_on_client(*command) as process:
        out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, out
    return process.pid


def with_nameserver(network: Hosts, server: str, folder: Path, *command: str) -> int:
    """Run a command that is configured to use a server as resolver."""
    (folder / "resolv.conf").write_text(f"nameserver {server}\n")
    return ask(network, "sh", "-c", f'mount --bind {folder}/resolv.conf /etc/resolv.conf; exec "$@"', "sh", *command)


DIG = ("dig", "isc-net-")  # the names of its threads: since 9.18 a thread of its own may send


def check_client(seen: Watching, name: str, pid: int, comm: str | tuple[str, ...], path: str) -> list[Captured]:
    """Check that query and response were captured at the client with its process; return these events."""

    def at_client() -> list[Captured]:
        return [event for event in seen.about(name) if event.flow.role == ASKS]

    seen.until(lambda: any(is_response(event.payload) for event in at_client()), f"the answer for {name}")
    found = at_client()
    assert {(event.process.pid, event.process.path) for event in found} == {(pid, path)}
    assert all(event.process.name.startswith(comm) for event in found)
    assert {is_response(event.payload) == event.flow.egress for event in found} == {False}
    assert all(event.process.parent_pid > 1 for event in found)
    return found


def check_server(seen: Watching, name: str) -> None:
    """Check that query and response were captured at the server with its process."""

    def at_server() -> list[Captured]:
        return [event for event in seen.about(name) if event.flow.role == ANSWERS]

    seen.until(lambda: {is_response(event.payload) for event in at_server()} == {True, False}, "both at the server")
    theirs = at_server()
    assert {(event.process.name, event.process.path) for event in theirs} == {("dnsmasq", "/usr/sbin/dnsmasq")}


@VERSIONS
@TRANSPORTS
def test_dig(network, seen, version, transport):
    """A query by dig is attributed to dig at the client and to dnsmasq at the server."""
    name = f"dig-{version}-{transport}.test"
    server = SERVERS[version]
    pid = ask(network, "dig", "+tcp" if transport == "tcp" else "+notcp", "+short", f"@{server}", name)
    found = check_client(seen, name, pid, DIG, "/usr/bin/dig")
    assert {event.flow.transport for event in found} == {transport}
    assert {event.flow.namespace for event in found} == {found[0].flow.namespace}
    assert found[0].flow.namespace
    check_server(seen, name)


@VERSIONS
def test_getent(network, seen, tmp_path, version):
    """A query by the C library is attributed to the program that called it."""
    name = f"getent-{version}.test"
    pid = with_nameserver(network, SERVERS[version], tmp_path, "getent", "ahosts", name)
    check_client(seen, name, pid, "getent", "/usr/bin/getent")


@pytest.mark.parametrize(("server", "foreign"), [(SENDER, False), (SERVER6, True)])
def test_foreign_servers(network, seen, tmp_path, server, foreign):
    """A response is foreign if the resolv.conf that the process sees does not name its server, once that was read."""
    name = f"foreign-{foreign}.test".lower()
    (tmp_path / "resolv.conf").write_text(f"nameserver {SENDER}\n")
    mounted = f'mount --bind {tmp_path}/resolv.conf /etc/resolv.conf; exec "$@"'
    code = (sys.executable, "-c", STAYING, server, query(name))

    def marks() -> set[bool | None]:
        asked = [event for event in seen.about(name) if event.flow.role == ASKS]
        return {event.args.get("foreign") for event in asked if is_response(event.payload)} - {None}

    with network.start_on_client("sh", "-c", mounted, "sh", *code) as process:

        def marked() -> set[bool | None]:
            process.stdin.write("\n")
            process.stdin.flush()
            return marks()

        seen.until(marked, "a marked answer")
        process.communicate("", timeout=PATIENCE)
    check_client(seen, name, process.pid, "python", os.path.realpath(sys.executable))
    assert marks() == {foreign}


@VERSIONS
def test_python(network, seen, tmp_path, version):
    """A query by Python is attributed to Python."""
    name = f"python-{version}.test"
    code = "import socket, sys; socket.getaddrinfo(sys.argv[1], 80)"
    pid = with_nameserver(network, SERVERS[version], tmp_path, sys.executable, "-c", code, name)
    check_client(seen, name, pid, "python", os.path.realpath(sys.executable))


@VERSIONS
@TRANSPORTS
def test_static_program(network, seen, static, version, transport):
    """A query by a static program is attributed to it."""
    name = f"static-{version}-{transport}.test"
    pid = ask(network, static, SERVERS[version], "53", transport, name)
    check_client(seen, name, pid, "resolve", static)


@VERSIONS
def test_socket_shared_by_a_fork(network, seen, version):
    """Packets of a child over a socket of its parent are attributed to the child."""
    name = f"forked-{version}.test"
    with network.start_on_client(sys.executable, "-c", FORKED, SERVERS[version], query(name)) as process:
        out, _ = process.communicate(timeout=PATIENCE)
    child = int(out)
    assert child != process.pid
    check_client(seen, name, child, "python", os.path.realpath(sys.executable))


@pytest.mark.parametrize("kind", ["udp", "unconnected", "tcp"])
def test_sockets_older_than_the_probe(network, kind):
    """Sockets of IPv4 and IPv6 that are older than the probe are attributed to their processes."""
    names = {version: f"older-{version}-{kind}.test" for version in SERVERS}
    with ExitStack() as stack:
        older = {}
        for version, server in SERVERS.items():
            command = (sys.executable, "-c", WAITING, server, kind, query(names[version]))
            older[version] = stack.enter_context(network.start_on_client(*command))
            assert older[version].stdout.readline() == "open\n"
        seen = stack.enter_context(watching())
        assert seen.source.counters["sockets_found"] > 0
        for version, process in older.items():
            out, _ = process.communicate("go\n", timeout=PATIENCE)
            assert process.returncode == 0, out
            check_client(seen, names[version], process.pid, "python", os.path.realpath(sys.executable))
            check_server(seen, names[version])


@VERSIONS
@TRANSPORTS
def test_client_behind_nat(network, seen, static, version, transport):
    """A client behind NAT is captured with the destination before NAT, and so is the response."""
    name = f"nat-{version}-{transport}.test"
    meant, real = ("10.99.0.77", SERVER) if version == "v4" else ("fd99::77", SERVER6)
    target = f"{real}:{HIDDEN}" if version == "v4" else f"[{real}]:{HIDDEN}"
    rule = ["OUTPUT", "-d", meant, "-p", transport, "--dport", "53", "-j", "DNAT", "--to", target]
    tables = ["iptables" if version == "v4" else "ip6tables", "-t", "nat"]
    done = network.on_client(*tables, "-A", *rule)
    if "does not exist" in done.stderr and version == "v6":
        skip("this kernel has no NAT for IPv6")
    assert done.returncode == 0, done.stderr
    try:
        pid = ask(network, static, meant, "53", transport, name)
    finally:
        network.on_client(*tables, "-D", *rule)
    found = check_client(seen, name, pid, "resolve", static)
    [asked] = [event.flow for event in found if event.flow.egress]
    assert (asked.destination_text, asked.destination_port) == (real, HIDDEN)
    assert asked.original == (meant, 53)
    [answered] = [event.flow for event in found if not event.flow.egress]
    assert (answered.source_text, answered.source_port) == (meant, 53)


@pytest.mark.parametrize(("when", "transport"), [("before", "udp"), ("after", "tcp")])
def test_the_relay_of_a_question_behind_nat(network, static, when, transport):
    """The process that receives a question by NAT on a loopback address, as Docker does, is its relay; no other one is.

    A neighbour binds the port at another address, and asks the same question: it is an asker of its own.
    """
    name = f"relayed-{when}-{transport}.test"
    rule = ["OUTPUT", "-d", STUB, "-p", transport, "--dport", "53", "-j", "DNAT", "--to", f"127.0.0.1:{HIDDEN}"]
    with ExitStack() as stack:
        if when == "after":
            seen = stack.enter_context(watching())
        stack.enter_context(dnsmasq(network.client, "127.0.0.1", HIDDEN, ANSWER, f"--server=/{name}/{SENDER}"))
        neighbour = stack.enter_context(
            network.start_on_client(sys.executable, "-c", NEIGHBOUR, str(HIDDEN), SENDER, query(name))
        )
        assert neighbour.stdout.readline() == "bound\n"
        listens = ("ss", "-Hnlt", "src", f"127.0.0.1:{HIDDEN}")
        wait_until(lambda: network.on_client(*listens).stdout, "the relay")
        if when == "before":
            seen = stack.enter_context(watching())
        assert network.on_client("iptables", "-t", "nat", "-A", *rule).returncode == 0
        stack.callback(network.on_client, "iptables", "-t", "nat", "-D", *rule)
        pid = ask(network, static, STUB, "53", transport, name)
        out, _ = neighbour.communicate("go\n", timeout=PATIENCE)
        assert neighbour.returncode == 0, out

        def nearest() -> list[int]:
            return [event.process.pid for event in seen.about(name) if not event.args.get(ASKER_SEEN)]

        seen.until(lambda: len(nearest()) >= 4, "the question of the neighbour and its answer")
        assert nearest() == [pid, pid, neighbour.pid, neighbour.pid]
        relay = [event.flow for event in seen.about(name) if event.flow.role == FORWARDER]
        assert [flow.egress for flow in relay if flow.destination_port == 53] == [True]


def test_an_older_relay_is_known_by_its_first_reply(network, static, monkeypatch):
    """A probe that may not look into the namespace of an older relay knows it from its first reply on."""
    monkeypatch.setattr(open_sockets, "network_namespaces", dict)
    rule = ["OUTPUT", "-d", STUB, "-p", "udp", "--dport", "53", "-j", "DNAT", "--to", f"127.0.0.1:{HIDDEN}"]
    with ExitStack() as stack:
        stack.enter_context(dnsmasq(network.client, "127.0.0.1", HIDDEN, ANSWER, f"--server=/relayed.test/{SENDER}"))
        listens = ("ss", "-Hnlt", "src", f"127.0.0.1:{HIDDEN}")
        wait_until(lambda: network.on_client(*listens).stdout, "the relay")
        seen = stack.enter_context(watching())
        assert network.on_client("iptables", "-t", "nat", "-A", *rule).returncode == 0
        stack.callback(network.on_client, "iptables", "-t", "nat", "-D", *rule)
        for name in ("first.relayed.test", "second.relayed.test"):
            pid = ask(network, static, STUB, "53", "udp", name)
            seen.until(lambda name=name: len(seen.about(name)) == 6, "client, relay and server")
        nearest = [one.process.pid for one in seen.about(name) if not one.args.get(ASKER_SEEN)]
        assert nearest == [pid, pid]


@pytest.mark.parametrize("when", ["before", "after"])
def test_process_in_a_container(network, when):
    """A process in a container has the container's id, for containers older and younger than the probe."""
    name = f"container-{when}.test"
    with ExitStack() as stack:
        if when == "after":
            seen = stack.enter_context(watching())
        folder = stack.enter_context(cgroup(f"docker-{CONTAINER}.scope"))
        if when == "before":
            seen = stack.enter_context(watching())
        enter = ["sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$@"', "sh"]
        dig = ["ip", "netns", "exec", network.client, "dig", "+short", f"@{SERVERS['v4']}", name]
        process = subprocess.Popen([*enter, *dig], stdout=subprocess.DEVNULL)
        assert process.wait(PATIENCE) == 0
        pid = process.pid
        folder.rmdir()  # late events still find the container
        found = check_client(seen, name, pid, DIG, "/usr/bin/dig")
        seen.until(lambda: seen.of(pid, SCHED_PROCESS_EXIT), "the end of dig")
        of_dig = [*found, *seen.of(pid, SCHED_PROCESS_EXIT)]
        assert {event.process.container_id for event in of_dig} == {CONTAINER}
        servers = [event for event in seen.about(name) if event.flow.role == ANSWERS]
        assert {event.process.container_id for event in servers} == {""}


def test_few_large_packets_are_read_at_once():
    """One read returns all packets that wait, also those that need more than half a mebibyte."""
    with watching(frozenset({LARGE})) as seen, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sends:
        seen.look()
        for _ in range(40):
            sends.sendto(bytes(60_000), ("127.0.0.1", LARGE))
        found = [event for name, event in seen.source.read(0.0) if name == NET_PACKET_DNS]
        assert len(found) >= 40


def test_new_containers_are_announced(network):
    """New cgroups can be waited for, more than the kernel announces before one is read, and again afterwards."""
    with watching() as seen, ExitStack() as stack:

        def made() -> Path:
            return stack.enter_context(cgroup(f"docker-{os.urandom(32).hex()}.scope"))

        begun, known = seen.source.begun, seen.source._attribution.containers.of
        for count in (300, 1):
            seen.until(lambda: not select([begun], [], [], 0)[0], "an end of the cgroups of others")
            cgroups = [made().stat().st_ino for _ in range(count)]
            assert select([begun], [], [], PATIENCE)[0]
            seen.until(lambda cgroups=cgroups: all(map(known, cgroups)), "the containers")


@VERSIONS
def test_a_connection_has_its_process_and_its_destination(network, seen, version):
    """Every connection attempt, even a refused one, is an event with process and destination."""
    client = (
        "import socket, sys; socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else 2).connect_ex((sys.argv[1], 81))"
    )
    server = SERVERS[version]
    pid = ask(network, sys.executable, "-c", client, server)
    seen.until(lambda: seen.of(pid, NET_TCP_CONNECT), "the connection")
    [event] = seen.of(pid, NET_TCP_CONNECT)
    assert event.args == {"dst": server, "dst_port": 81, "socket": event.flow.socket}
    assert event.process.path == os.path.realpath(sys.executable)


def test_a_mapped_address_is_ipv4(network, seen):
    """A connection to an IPv4-mapped address is reported with the IPv4 address."""
    client = "import socket, sys; socket.socket(socket.AF_INET6).connect_ex(('::ffff:' + sys.argv[1], 81))"
    pid = ask(network, sys.executable, "-c", client, SERVER)
    seen.until(lambda: seen.of(pid, NET_TCP_CONNECT), "the connection")
    args = seen.of(pid, NET_TCP_CONNECT)[0].args
    assert (args["dst"], args["dst_port"]) == (SERVER, 81)


@TRANSPORTS
def test_a_query_to_a_mapped_address(network, seen, transport):
    """A query to an IPv4-mapped address has IPv4 addresses, before and after NAT."""
    name = f"mapped-{transport}.test"
    pid = ask(network, sys.executable, "-c", WAITING, f"::ffff:{SENDER}", transport, query(name))
    found = check_client(seen, name, pid, "python", os.path.realpath(sys.executable))
    assert {event.flow.meant for event in found} == {ip_address(SENDER).packed}
    assert {event.flow.original for event in found} == {None}


@pytest.mark.parametrize("target", [*SERVERS.values(), f"::ffff:{SERVER}"], ids=["v4", "v6", "mapped"])
def test_udp_connection(network, seen, target):
    """The first datagram of a connected UDP socket is an event of its process, unless it goes to a DNS port."""
    client = (
        "import contextlib, socket, sys\n"
        "for port, datagrams in ((53, 1), (0, 0), (442, 0), (443, 2)):\n"
        "    with socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else 2, socket.SOCK_DGRAM) as sock:\n"
        "        sock.connect((sys.argv[1], port))\n"
        "        source = sock.getsockname()[1]\n"
        "        for _ in range(datagrams):\n"
        "            with contextlib.suppress(ConnectionRefusedError): sock.send(b'x')\n"
        "print(source)\n"
    )
    with network.start_on_client(sys.executable, "-c", client, target) as process:
        source = int(process.communicate(timeout=PATIENCE)[0])
    seen.until(lambda: seen.of(process.pid, NET_UDP_CLOSE), "the end")
    [event], [closed] = seen.of(process.pid, NET_UDP_CONNECT), seen.of(process.pid, NET_UDP_CLOSE)
    to = {"dst": target.removeprefix("::ffff:"), "dst_port": 443, "socket": event.flow.socket}
    ends = event.flow.source, source, event.flow.destination, 443
    assert event.args == {**to, "community_id": community_id("udp", *ends)}
    assert closed.args == to
    assert (event.flow.source_port, event.flow.transport) == (source, "udp")
    assert event.process.path == os.path.realpath(sys.executable)
    assert not seen.of(process.pid, NET_TCP_CONNECT)


def test_a_fork_is_an_event_of_the_forking_process(network, seen):
    """A fork is an event of the forking process and thread, with the child's id; a new thread is no fork."""
    code = (
        "import os, threading\n"
        "def fork():\n"
        "    child = os.fork()\n"
        "    if not child: os._exit(0)\n"
        "    os.waitpid(child, 0)\n"
        "    print(threading.get_native_id(), child)\n"
        "thread = threading.Thread(target=fork); thread.start(); thread.join()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        thread, child = map(int, process.stdout.read().split())
    seen.until(lambda: seen.of(process.pid, SCHED_PROCESS_EXIT), "the end")
    [event] = seen.of(process.pid, SCHED_PROCESS_FORK)
    assert event.args == {"parent_pid": process.pid, "parent_tid": thread, "child_pid": child, "child_tid": child}
    assert (event.process.path, event.process.thread_id) == (os.path.realpath(sys.executable), thread)
    [end] = seen.of(child, SCHED_PROCESS_EXIT)
    assert (end.process.path, end.process.parent_pid) == (event.process.path, process.pid)


def check_identity(event: Captured, when: str) -> None:
    """Check the namespaces and the start of a running process against /proc, which counts in clock ticks."""
    pid = event.process.pid
    spaces = [Path(f"/proc/{pid}/ns/{kind}").stat().st_ino for kind in ("mnt", "pid")]
    assert [event.process.mount_namespace, event.process.pid_namespace] == spaces, when
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    boot = max(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) for _ in range(9))  # a stop between makes it less
    since_boot = event.process.start_time / 10**9 - boot
    # A tick of /proc is rounded off, and a second one is for the wall clock, which is set meanwhile.
    assert since_boot == pytest.approx(ticks / os.sysconf("SC_CLK_TCK"), abs=2 / os.sysconf("SC_CLK_TCK")), when


def test_namespaces_and_start_are_those_of_proc(network, seen):
    """Packets and process events carry the namespaces and the start of their process, as /proc states them."""
    inner = ("unshare", "--pid", "--fork", "--mount", sys.executable, "-c", STAYING, SENDER, query("spaces.test"))
    with network.start_on_client(*inner) as process:
        seen.until(lambda: [event for event in seen.about("spaces.test") if event.flow.role == ASKS], "the question")
        [asked, *_] = [event for event in seen.about("spaces.test") if event.flow.role == ASKS]
        assert asked.process.pid_namespace != Path("/proc/self/ns/pid").stat().st_ino
        check_identity(asked, "a packet")
        check_identity(seen.of(asked.process.pid, SCHED_PROCESS_EXEC)[-1], "an exec")
        process.communicate("", timeout=PATIENCE)
    seen.until(lambda: seen.of(asked.process.pid, SCHED_PROCESS_EXIT), "the end")
    [end] = seen.of(asked.process.pid, SCHED_PROCESS_EXIT)
    assert end.process == asked.process
    assert {event.processor for _, event in seen.events} <= set(range(os.cpu_count()))


def test_start_of_a_process_that_is_older_than_the_probe(network):
    """The namespaces and the start of a process that is older than the probe come from /proc."""
    command = (sys.executable, "-c", WAITING, SENDER, "udp", query("older-start.test"))
    with network.start_on_client(*command) as process:
        assert process.stdout.readline() == "open\n"
        with watching() as seen:
            process.stdin.write("go\n")
            process.stdin.flush()

            def at_server() -> list[Captured]:
                return [event for event in seen.about("older-start.test") if event.flow.role == ANSWERS]

            seen.until(at_server, "the question at the server, which follows that of the client")
            check_identity(at_server()[0], "a server")
            of_client = [event for event in seen.about("older-start.test") if event.flow.role == ASKS]
            assert of_client[0].process.start_time
        process.communicate(timeout=PATIENCE)


@pytest.mark.parametrize(
    ("script", "code", "signal_code"),
    [("exit 7", 7, 0), ("kill -9 $$", 0, 9), ("kill -15 $$", 0, 15), ("exit 0", 0, 0)],
)
def test_exit_of_a_process(network, seen, script, code, signal_code):
    """An exit has the exit code or the signal, and the program."""
    process = subprocess.Popen(["/bin/sh", "-c", script])
    process.wait()
    seen.until(lambda: seen.of(process.pid, SCHED_PROCESS_EXIT), "the end")
    [event] = seen.of(process.pid, SCHED_PROCESS_EXIT)
    assert (event.args["exit_code"], event.args["signal_code"]) == (code, signal_code)
    assert (event.process.path, event.process.parent_pid) == (os.path.realpath("/bin/sh"), os.getpid())


def test_a_process_with_threads_exits_once(network, seen):
    """A process exits once, with its last thread, even if its first thread ended before."""
    code = (
        "import ctypes, threading\n"
        "def last(): threading.main_thread().join(0.2); import os; os._exit(3)\n"
        "threading.Thread(target=last).start()\n"
        "ctypes.CDLL(None).syscall(60, 0)\n"  # exit(2) of the first thread alone
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    process.wait()
    seen.until(lambda: seen.of(process.pid, SCHED_PROCESS_EXIT), "the end")
    [event] = seen.of(process.pid, SCHED_PROCESS_EXIT)
    assert event.args["exit_code"] == 3


def test_paths_are_absolute_and_real(network, seen, tmp_path):
    """The path of a program is absolute and real: the interpreter of a script, the target of a link."""
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\nexit 0\n")
    script.chmod(0o755)
    (tmp_path / "link").symlink_to("/usr/bin/true")
    for command, path in (("./script", os.path.realpath("/bin/sh")), ("./link", os.path.realpath("/usr/bin/true"))):
        process = subprocess.Popen([command], cwd=tmp_path)
        process.wait()
        seen.until(lambda pid=process.pid: seen.of(pid, SCHED_PROCESS_EXIT), "the end")
        assert {event.process.path for event in seen.of(process.pid, SCHED_PROCESS_EXEC)} == {path}


def test_forwarder(network, seen):
    """A process that is both server and client is a forwarder; its own server and its clients are not."""
    with dnsmasq(network.client, "127.0.0.1", 53, "/other/192.0.2.2", f"--server={SENDER}"):
        ask_here = ("dig", "+short", "+tries=1", "@127.0.0.1")
        wait_until(
            lambda: network.on_client(*ask_here, "+time=1", "ready2.test").stdout == "192.0.2.1\n", "the forwarder"
        )
        pid = ask(network, *ask_here, "+time=30", "forwarded.test")
    seen.until(lambda: len(seen.about("forwarded.test")) >= 8, "question and answer, at both ends, on both ways")
    roles = {(Path(event.process.path).name, event.flow.role) for event in seen.about("forwarded.test")}
    assert roles == {("dig", "client"), ("dnsmasq", "forwarder"), ("dnsmasq", "server")}
    forwarders = {event.process.pid for event in seen.about("forwarded.test") if event.flow.role == "forwarder"}
    assert len(forwarders) == 1
    assert pid not in forwarders


def test_a_server_that_daemonized(network, seen, tmp_path):
    """Responses of a server that daemonized are attributed to its running process."""
    address, pid_file = "127.0.0.53", tmp_path / "pid"
    options = ("--bind-interfaces", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--address=/test/192.0.2.1")
    started = network.on_client("dnsmasq", *options, f"--listen-address={address}", f"--pid-file={pid_file}")
    assert started.returncode == 0, started.stderr
    wait_until(lambda: text_of(pid_file).endswith("\n"), "the process id of the server")
    pid = int(pid_file.read_text())
    try:
        for transport in ("notcp", "tcp"):
            ask(network, "dig", f"+{transport}", "+short", f"@{address}", f"{transport}.background.test")
        seen.until(lambda: len(seen.about("tcp.background.test")) >= 4, "question and answer, at both ends")
    finally:
        os.kill(pid, signal.SIGTERM)
    answers = [event for event in seen.about("notcp.background.test") if event.flow.role == ANSWERS]
    assert {event.process.pid for event in answers if event.flow.egress} == {pid}
    over_tcp = [event for event in seen.about("tcp.background.test") if event.flow.role == ANSWERS]
    assert {(event.process.pid, event.process.path) for event in over_tcp} == {(pid, "/usr/sbin/dnsmasq")}


@contextmanager
def answering(network: Hosts, *bound: str) -> Iterator[int]:
    """Run a server on the client host, bound to an address; yield its process."""
    with network.start_on_client(sys.executable, "-c", ANSWERING, *bound) as process:
        try:
            assert process.stdout.readline() == "bound\n"
            yield process.pid
        finally:
            process.communicate(timeout=PATIENCE)


def check_asked(network: Hosts, seen: Watching, address: str, pid: int, transport: str = "tcp") -> None:
    """Ask the server at an address, and check that question and answer are attributed there to a process."""
    name = f"{os.urandom(4).hex()}.test"
    client = ask(network, "dig", "+tcp" if transport == "tcp" else "+notcp", "+noedns", f"@{address}", name)
    seen.until(lambda: len(seen.about(name)) >= 4, "question and answer, at both ends")
    ends = {(event.process.pid, event.flow.role, event.flow.egress) for event in seen.about(name)}
    asked, answered = {(client, ASKS, way) for way in (True, False)}, {(pid, ANSWERS, way) for way in (True, False)}
    assert ends == asked | answered


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "servers",
    [{"127.0.0.2": ("127.0.0.2",), "127.0.0.3": ("127.0.0.3",)}, {"127.0.0.1": ("0.0.0.0",), "::1": ("::", "only")}],
    ids=["two addresses", "two wildcards"],
)
def test_two_servers_of_one_namespace(network, when, servers):
    """Of two servers at one port, each has its own answers over TCP, also when the other one answers over UDP."""
    with ExitStack() as stack:
        if when == "after":
            seen = stack.enter_context(watching())
        pids = {address: stack.enter_context(answering(network, *bound)) for address, bound in servers.items()}
        if when == "before":
            seen = stack.enter_context(watching())
        for before in [None, *servers]:
            if before:
                check_asked(network, seen, before, pids[before], "udp")
            for address, pid in pids.items():
                check_asked(network, seen, address, pid)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("bound", "address"),
    [("0.0.0.0", "127.0.0.2"), ("::", "127.0.0.2"), ("::", "::1"), ("::ffff:127.0.0.2", "127.0.0.2")],
)
def test_a_server_of_a_wildcard(network, when, bound, address):
    """A server that bound a wildcard or an IPv4-mapped address has its answers, also after others at the address."""
    with ExitStack() as stack:
        if when == "after":
            seen = stack.enter_context(watching())
        with answering(network, address) as earlier:
            if when == "before":
                seen = stack.enter_context(watching())
            check_asked(network, seen, address, earlier)
        pid = stack.enter_context(answering(network, bound))
        check_asked(network, seen, address, pid)


def test_a_server_behind_nat(network, seen):
    """An answer that NAT gives another source address is attributed by the address of its socket."""
    rule = ["OUTPUT", "-d", "127.0.0.77", "-p", "tcp", "--dport", "53", "-j", "DNAT", "--to", "127.0.0.2:53"]
    with answering(network, "127.0.0.2") as pid, answering(network, "127.0.0.3"):
        assert network.on_client("iptables", "-t", "nat", "-A", *rule).returncode == 0
        try:
            check_asked(network, seen, "127.0.0.77", pid)
        finally:
            network.on_client("iptables", "-t", "nat", "-D", *rule)


@pytest.mark.parametrize("abilities", loader._ABILITIES[1:], ids=["no namespace", "neither namespace nor task"])
def test_older_kernels(network, monkeypatch, abilities):
    """With the values that older kernels provide, client and server are still attributed, over UDP and TCP."""
    monkeypatch.setattr(loader, "_ABILITIES", (abilities,))
    with watching() as seen:
        for transport in ("+notcp", "+tcp"):
            name = f"old{transport[1:]}-{sum(abilities.values())}.test"
            pid = ask(network, "dig", transport, "+short", f"@{SENDER}", name)
            check_client(seen, name, pid, DIG, "/usr/bin/dig")
            check_server(seen, name)


def test_a_thousand_short_processes(network, static):
    """Each of 1,009 short processes has its own exec, exit and response."""
    count, server = 1009, SERVERS["v4"]
    loop = f'i=0; while [ $i -lt {count} ]; do "$@" n$i.short.test || exit 1; i=$((i + 1)); done'
    with watching() as seen:
        with network.start_on_client("sh", "-c", loop, "sh", static, server, "53", "udp") as process:
            while process.poll() is None:
                seen.look()
        assert process.returncode == 0
        seen.until(
            lambda: sum(event.process.path == static for event in seen.named(SCHED_PROCESS_EXIT)) == count, "all"
        )
        started = [event for event in seen.named(SCHED_PROCESS_EXEC) if event.process.path == static]
        ended = [event for event in seen.named(SCHED_PROCESS_EXIT) if event.process.path == static]
        received = [event for event in seen.named(NET_PACKET_DNS) if event.flow.role == ASKS and not event.flow.egress]
        answers = [event for event in received if question_of(event).endswith(".short.test")]
        assert len(started) == len(ended) == len(answers) == count
        assert {event.process.pid for event in answers} == {event.process.pid for event in started}
        assert {event.process.path for event in answers} == {static}
        assert {event.process.parent_pid for event in answers} == {process.pid}
        assert {question_of(event) for event in answers} == {f"n{number}.short.test" for number in range(count)}
        assert seen.source.counters["ring_full"] == 0


def query(name: str) -> str:
    """Return a query in hexadecimal."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return (b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1").hex()
