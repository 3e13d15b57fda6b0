"""The cases of docs/reference/events.md at real sockets: each question of a process or client is one transaction.

Those that wait for a timeout are in tests/long/test_unanswered_live.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from scapy.layers.inet import IP, UDP

from builders.talk import answer, query
from dnstrail.image.queries import SHARE
from live.cases import ANSWER, ASK, Cases, cases
from live.ebpf_source import cgroup, inside
from live.namespaces import CLIENT, GOOGLE, SENDER, SERVER, Hosts, dnsmasq
from live.processes import PATIENCE, wait_until
from live.stopped import frozen
from live.unbound import unbound_stub

STUB, RESOLVER = "127.0.0.53", "127.0.0.54"
EMBEDDED, HIDDEN = "127.0.0.11", 44932  # the address of Docker's resolver, and the port to which NAT leads
CONTAINER, GATEWAY = "10.98.0.2", "10.98.0.1"
REMOTE, FORWARDER, SILENT, LARGE = "10.99.0.77", "10.99.0.4", "10.99.0.5", "10.99.0.6"
FLOOD = SHARE + 476


@pytest.fixture(scope="module")
def service(network: Hosts) -> Iterator[Cases]:
    """Yield a run that captures these hosts, which have further addresses."""
    for namespace, addresses in ((network.server, (FORWARDER, SILENT, LARGE)), (network.client, (REMOTE,))):
        for address in addresses:
            ip("-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
    with cases() as made:
        yield made


def ip(*arguments: str) -> str:
    """Run a command of iproute2; return its output."""
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def dig(network: Hosts, server: str, name: str, *options: str) -> str:
    """Return the answer of a server to a client."""
    return network.on_client("dig", "+short", "+tries=1", "+time=60", f"@{server}", name, *options).stdout.strip()


def await_server(network: Hosts, server: str, name: str) -> None:
    """Wait until a server of the client answers."""
    wait_until(lambda: dig(network, server, name, "+time=1"), f"the server at {server}")


def test_a_client(network, service):
    """A question to a server is a transaction of its process, with the answer and the time it waited."""
    assert dig(network, SERVER, "client.google.com") == GOOGLE
    [row] = service.check("a client asks a server", "client.google.com")
    assert (row["src"], row["dst"], row["dst_port"]) == (CLIENT, SERVER, 53)
    assert row["relations"] == [["client.google.com", "A", GOOGLE, 0]]
    assert 0 < row["waited"] < PATIENCE * 1e9


def test_application_stub_and_resolver(network, service, tmp_path):
    """Application, stub and resolver on one host: each has a transaction, and each forwarder asks for the client."""
    with (
        unbound_stub(network, tmp_path, RESOLVER, SERVER),
        dnsmasq(network.client, STUB, 53, "/unused.invalid/", f"--server={RESOLVER}"),
    ):
        await_server(network, STUB, "first.google.com")
        assert dig(network, STUB, "chain.google.com") == GOOGLE
        rows = service.check("application, stub and resolver on one host", "chain.google.com")
    assert [row["comm"] for row in rows] == ["dig", "dnsmasq", "unbound"]
    assert [row["dst"] for row in rows] == [STUB, RESOLVER, SERVER]
    assert rows[0]["waited"] >= rows[1]["waited"] >= rows[2]["waited"] > 0


@contextmanager
def container(network: Hosts) -> Iterator[str]:
    """Make a namespace behind NAT of the client's host."""
    name, router = f"{network.client}n", network.client
    masquerade = ["POSTROUTING", "-s", f"{CONTAINER}/32", "-o", "eth0", "-j", "MASQUERADE"]
    ip("netns", "add", name)
    try:
        ip("link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", "inner", "netns", router)
        for namespace, link, address in ((name, "eth0", CONTAINER), (router, "inner", GATEWAY)):
            ip("-n", namespace, "addr", "add", f"{address}/24", "dev", link)
            ip("-n", namespace, "link", "set", link, "up")
        ip("-n", name, "route", "add", "default", "via", GATEWAY)
        assert network.on_client("sysctl", "-qw", "net.ipv4.ip_forward=1").returncode == 0
        assert network.on_client("iptables", "-t", "nat", "-A", *masquerade).returncode == 0
        yield name
    finally:
        network.on_client("iptables", "-t", "nat", "-D", *masquerade)
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def test_a_container_behind_nat(network, service):
    """A question that NAT gives another source on its way is one transaction, of the process in the container."""
    with container(network) as inner:
        assert Hosts(inner, "").on_client("dig", "+short", f"@{SERVER}", "nat.google.com").stdout.strip() == GOOGLE
        [row] = service.check("a container behind NAT", "nat.google.com")
    assert (row["src"], row["dst"]) == (CONTAINER, SERVER)


@pytest.mark.parametrize(
    ("transport", "case"),
    [
        ("udp", "a resolver behind NAT to another port"),
        ("tcp", "a resolver behind NAT to another port, over TCP"),
    ],
)
def test_a_resolver_behind_nat(network, service, transport, case):
    """NAT to another port, as to Docker's resolver, hides the resolver's socket: it still asks for its client."""
    rule = ("OUTPUT", "-d", EMBEDDED, "-p", transport, "--dport", "53", "-j", "DNAT", "--to", f"127.0.0.1:{HIDDEN}")
    name, options = f"{transport}.embedded.google.com", [f"+{transport}"] if transport == "tcp" else []
    with ExitStack() as stack:
        stack.enter_context(dnsmasq(network.client, "127.0.0.1", HIDDEN, "/unused.invalid/", f"--server={SERVER}"))
        assert network.on_client("iptables", "-t", "nat", "-A", *rule).returncode == 0
        stack.callback(network.on_client, "iptables", "-t", "nat", "-D", *rule)
        wait_until(lambda: dig(network, EMBEDDED, "first.google.com", "+time=1", *options), "the resolver")
        assert dig(network, EMBEDDED, name, *options) == GOOGLE
        rows = service.check(case, name)
    assert (rows[0]["resolver"], rows[0]["dst_port"]) == (EMBEDDED, HIDDEN)
    assert [row["comm"] for row in rows] == ["dig", "dnsmasq"]


# Sends an IP packet (hex) past all sockets, as a host that is not captured does.
PAST_SOCKETS = """
import socket, sys
end = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
end.sendto(bytes.fromhex(sys.argv[1]), ("eth0", 0x0800, 0, 0, bytes.fromhex(sys.argv[2].replace(":", ""))))
"""


def test_a_client_of_another_host(network, service):
    """A client without a socket on this host is known by its address, and the forwarder asks for it."""
    packet = bytes(IP(src=REMOTE, dst=FORWARDER) / UDP(sport=40000, dport=53) / query("remote.google.com")).hex()
    mac = ip("-n", network.server, "-br", "link", "show", "eth0").split()[2]
    with dnsmasq(network.server, FORWARDER, 53, "/unused.invalid/", f"--server={SERVER}"):
        await_server(network, FORWARDER, "first.google.com")
        assert network.on_client(sys.executable, "-c", PAST_SOCKETS, packet, mac).returncode == 0
        served, asked = service.check("a client of another host asks a resolver here", "remote.google.com")
    assert (served["src"], served["comm"]) == (REMOTE, "")
    assert (asked["comm"], asked["src"]) == ("dnsmasq", SERVER)


def test_a_retry(network, service):
    """A retry from the same socket is the same transaction, which waited since the first try."""
    servers = map(int, ip("netns", "pids", network.server).split())
    with frozen(*servers):
        retrying = network.start_on_client(sys.executable, "-c", ASK, "retry.google.com", SERVER, "0.3")
        assert retrying.stdout.readline() == "sent\n"
    with retrying:
        assert retrying.wait(PATIENCE) == 0
    [row] = service.check("a retry from the same socket", "retry.google.com")
    assert row["waited"] >= 300_000_000


# Waits for the answer at a socket, and sends the question (hex) afterwards.
ASK_LATER = """
import socket, sys
end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
end.bind((sys.argv[1], 0))
print(end.getsockname()[1], flush=True)
end.recv(512)
end.sendto(bytes.fromhex(sys.argv[3]), (sys.argv[2], 53))
"""


def test_an_answer_before_its_question(network, service):
    """An answer that is captured before its question ends it, once, without a wait."""
    question, response = query("early.test").hex(), answer(name="early.test").hex()
    with network.start_on_client(sys.executable, "-c", ASK_LATER, CLIENT, SILENT, question) as asking:
        port = asking.stdout.readline().strip()
        server = ("ip", "netns", "exec", network.server, sys.executable, "-c", ANSWER)
        assert subprocess.run([*server, SILENT, CLIENT, port, response], check=False).returncode == 0
        assert asking.wait(PATIENCE) == 0
    [row] = service.check("the answer is captured before its question", "early.test")
    assert (row["waited"], row["matched"], row["pid"]) == (0, False, asking.pid)


def test_tcp(network, service):
    """A question over TCP is a transaction as one over UDP."""
    assert dig(network, SERVER, "tcp.google.com", "+tcp") == GOOGLE
    service.check("a question over TCP", "tcp.google.com")


def test_a_truncated_answer(network, service):
    """A truncated answer ends its question; the question that the client repeats over TCP is another one."""
    records = ["--txt-record=ready.test,a", *(f"--txt-record=large.test,{text * 250}" for text in "abc")]
    with dnsmasq(network.server, LARGE, 53, "/unused.invalid/", *records):
        wait_until(lambda: dig(network, LARGE, "ready.test", "TXT", "+time=1"), "dnsmasq")
        assert len(dig(network, LARGE, "large.test", "TXT", "+noedns").splitlines()) == 3
        service.check("a truncated answer, and the question over TCP", "large.test")


@pytest.fixture(scope="module")
def resolves(network: Hosts, service: Cases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Yield the command that resolves a name on the client by getaddrinfo, once its calls are captured."""
    folder = tmp_path_factory.mktemp("resolves")
    (folder / "resolv.conf").write_text(f"nameserver {SENDER}\n")
    (folder / "hosts").write_text("".join(f"192.0.2.1 call{number}.test\n" for number in range(1000)))
    mounts = "".join(f"mount --bind {folder}/{name} /etc/{name} && " for name in ("resolv.conf", "hosts"))
    both = ("/both.test/192.0.2.1", "--address=/both.test/2001:db8::1")
    with dnsmasq(network.server, SENDER, 53, *both):
        await_server(network, SENDER, "ready.both.test")
        yield ["sh", "-c", f'{mounts}exec getent ahosts "$1"', "sh"]


def test_getaddrinfo_without_packets(network, service, resolves):
    """A call of getaddrinfo that sends no packet is a transaction of its process, without a server."""
    names = (f"call{number}.test" for number in range(1000))
    asked: list[str] = []

    def captured() -> bool:  # the library is watched a moment after the start of the probe
        asked.append(next(names))
        assert network.on_client(*resolves, asked[-1]).returncode == 0
        return bool(service.named(*asked))

    wait_until(captured, "a call")
    name = service.named(*asked)[0]["name"]
    [row] = service.check("`getaddrinfo` finds a name in `/etc/hosts`", name)
    assert row["comm"] == "getent"


def test_a_and_aaaa(network, service, resolves):
    """The two questions of a call are two transactions of one process, and the call itself is none."""
    assert network.on_client(*resolves, "both.test").returncode == 0
    rows = service.check("`getaddrinfo` asks for A and AAAA", "both.test")
    assert len({row["pid"] for row in rows}) == len({row["socket"] for row in rows}) == 1


# Sends questions for the names 0.flood.test, 1.flood.test, ... to a server.
FLOODING = """
import socket, sys
end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range(int(sys.argv[2])):
    label = str(number).encode()
    name = bytes([len(label)]) + label + b"\\5flood\\4test\\0"
    head = number.to_bytes(2, "big") + bytes.fromhex("01000001000000000000")
    end.sendto(head + name + b"\\0\\1\\0\\1", (sys.argv[1], 53))
"""


def test_a_flood(network, service):
    """The oldest questions of a flood end as unknown, one by one, and the questions of others are not affected."""
    with cgroup(f"dnstrail{os.getpid()}-questions") as folder:
        on_client = ("nsenter", f"--net=/run/netns/{network.client}", sys.executable)
        subprocess.run(inside(folder, *on_client, "-c", FLOODING, SILENT, str(FLOOD)), check=True)
        names = [f"{number}.flood.test" for number in range(FLOOD)]
        wait_until(lambda: len(service.named(*names)) >= FLOOD - SHARE, "the evictions")
    evicted = [row["name"] for row in service.named(*names)]
    assert evicted == names[: len(evicted)]
    service.check("more than 1,024 questions wait: the oldest", names[0])
    assert dig(network, SERVER, "beside.google.com") == GOOGLE
    service.check("a client asks a server", "beside.google.com")


def test_no_transaction_came_later(network, service):
    """When all responses have waited for their questions, no case has a further transaction."""
    assert service.check_again(lambda name: dig(network, SERVER, name))
